"""Opinions → batches with the reference's answer to each, in an order that a resumed run finds again.

What is dear is kept: latents, embeddings, and what the base model says of a batch. For the latter to come back, order,
timesteps and noise repeat themselves after `noise_draws` passes over the rows; then batches have the same company as
before, so their reference is the same to the last bit whether it was kept or is made anew after a resume.

The anchor needs the reference's predictions, not only its errors: as large as the latents, 64 kB a picture in Stable
Diffusion 1.5 and 256 kB in XL, so 200 pairs of 16 draws are 0.4 GB and 1.6 GB. They are kept up to KEPT_BYTES; of
later batches the reference is made anew each time, in one pass, which costs a quarter of such a step.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.domain.errors import DatasetUnusable
from core.domain.preference import PreferenceKind, PreferencePlan, PreferenceRow
from worker.engine.denoiser import Condition
from worker.engine.implicit_reward import seeded_noise
from worker.training.learner import Learner
from worker.training.opinion_shelf import OpinionShelf

KEPT_BYTES = 2**30
_ORDER, _TIMESTEP, _NOISE, _PRESERVED = 0, 1, 2, 3  # keep the streams of chance apart
_GOLDEN = (5**0.5 - 1) / 2
_MOST_DISLIKED, _MOST_LIKED = 1.0, 4 / 3  # weight of all likes over that of all dislikes: KTO's range


@dataclass(frozen=True, slots=True)
class Reference:
    """What the base says of a batch's pictures, without gradients: errors (n,), predictions (n, c, h, w)."""

    errors: torch.Tensor
    predictions: torch.Tensor

    def to(self, device: torch.device) -> "Reference":
        """The same on a device."""
        return Reference(self.errors.to(device), self.predictions.to(device))


@dataclass(frozen=True, slots=True)
class PreferenceBatch:
    """Opinions side by side, for one pass: chosen pictures, rejected ones in the same order, then single ones.

    `latents`, `noise` (n, c, h, w), `timesteps` (n,), `condition` and `reference` are of pictures, `pairs` of them
    twice. `weights` (pairs + singles,) are of opinions, 1 on average; `signs` (singles,) say liked (1) or not (-1).
    `liked` (n,) is the weight of a picture that somebody liked or chose, else 0. The last `preserved` pictures are no
    opinions but what the base drew for prompts that are to be drawn as before.
    """

    latents: torch.Tensor
    condition: Condition
    timesteps: torch.Tensor
    noise: torch.Tensor
    reference: Reference
    pairs: int
    weights: torch.Tensor
    signs: torch.Tensor
    liked: torch.Tensor
    preserved: int = 0

    def split(self, figures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Figures of pictures (n,) → those of the chosen, of the rejected and of the single ones."""
        opinions, _ = self.part(figures)
        return opinions[: self.pairs], opinions[self.pairs : 2 * self.pairs], opinions[2 * self.pairs :]

    def part(self, figures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Figures of pictures (n,) → those of opinions and of what is preserved."""
        count = len(figures) - self.preserved
        return figures[:count], figures[count:]


def content_key(row: PreferenceRow) -> int:
    """A number that belongs to what a row says, whoever said it and wherever it stands."""
    said = [row.kind, row.prompt, row.picture.sha256, row.rejected.sha256 if row.rejected else None]
    return int.from_bytes(hashlib.sha256(json.dumps(said).encode()).digest()[:16], "big")


def by_content(rows: Sequence[PreferenceRow]) -> list[PreferenceRow]:
    """The rows in an order that depends on nothing but what they say."""
    return sorted(rows, key=lambda row: (content_key(row), row.weight))


def lay_out(rows: Sequence[PreferenceRow]) -> tuple[list[str], int]:
    """Digests of the pictures of rows, of which pairs come first: chosen, rejected, single ones. And how many pairs."""
    chosen = [row.picture.sha256 for row in rows if row.rejected is not None]
    rejected = [row.rejected.sha256 for row in rows if row.rejected is not None]
    single = [row.picture.sha256 for row in rows if row.rejected is None]
    return [*chosen, *rejected, *single], len(chosen)


def class_factors(rows: Sequence[PreferenceRow]) -> dict[PreferenceKind, float]:
    """What single opinions' weights are multiplied by, so that likes weigh 1 to 4/3 times as much as dislikes in all.

    Their sum stays what it was; pairs keep theirs.
    """
    sums = {kind: sum(row.weight for row in rows if row.kind is kind) for kind in PreferenceKind}
    liked, disliked = sums[PreferenceKind.LIKED], sums[PreferenceKind.DISLIKED]
    factors = dict.fromkeys(PreferenceKind, 1.0)
    if liked and disliked:
        ratio = min(max(liked / disliked, _MOST_DISLIKED), _MOST_LIKED)
        share = ratio / (1 + ratio)
        factors[PreferenceKind.LIKED] = share * (liked + disliked) / liked
        factors[PreferenceKind.DISLIKED] = (1 - share) * (liked + disliked) / disliked
    return factors


class PreferenceSource:
    """Batches of opinions: every row once per pass, each of `noise_draws` passes in an order of its own, and again.

    Raises:
        DatasetUnusable: there is nothing to train on.
    """

    def __init__(
        self,
        rows: Sequence[PreferenceRow],
        shelf: OpinionShelf,
        learner: Learner,
        plan: PreferencePlan,
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        if not rows:
            raise DatasetUnusable("The training data have no row to train on: all are held out.")
        self.position = 0
        self._rows, self._shelf, self._learner, self._plan = by_content(rows), shelf, learner, plan
        factors = class_factors(rows)
        plain = [factors[row.kind] * row.weight for row in self._rows]
        self._weights = [weight * len(plain) / sum(plain) for weight in plain]
        self._cycle = -(-len(rows) * plan.spec.noise_draws // plan.spec.batch_size)
        self._kept: dict[int, Reference] = {}
        self._room = kept_bytes
        self._orders: dict[int, list[int]] = {}
        self._preserved: list[tuple[str, torch.Tensor]] = []

    def preserve(self, prompt: str, latents: torch.Tensor) -> None:
        """Let a picture (1, c, h, w) that the base drew for a prompt come along, before the first batch is taken."""
        self._preserved.append((prompt, latents))

    @property
    def preserved_count(self) -> int:
        """How many pictures come along."""
        return len(self._preserved)

    def take(self) -> PreferenceBatch:
        """The next batch_size opinions."""
        size = self._plan.spec.batch_size
        number = self.position // size
        self.position += size
        return self._batch(number % self._cycle, comes_again=number + self._cycle < self._batches)

    @property
    def _batches(self) -> int:
        return self._plan.spec.steps * self._plan.spec.gradient_accumulation

    def _batch(self, number: int, *, comes_again: bool) -> PreferenceBatch:
        uses = sorted(self._uses(number), key=lambda use: use.row.rejected is None)
        digests, pairs = lay_out([use.row for use in uses])
        shown = [*uses[:pairs], *uses]
        preserved = self._preserved_of(number)
        latents = torch.cat([self._shelf.latent(sha256) for sha256 in digests] + [drawn for _, drawn in preserved])
        condition = self._shelf.condition([use.row.prompt for use in shown] + [prompt for prompt, _ in preserved])
        shape, numbers = latents.shape[1:], range(len(preserved))
        noise = torch.stack(
            [self._noise(use, shape) for use in shown]
            + [seeded_noise(shape, self._plan.seed, _PRESERVED, number, i) for i in numbers]
        ).to(latents.device)
        timesteps = torch.tensor(
            [self._timestep(use) for use in shown] + [self._spread(i / len(preserved), number) for i in numbers],
            device=latents.device,
        )
        likes = [0.0 if use.row.kind is PreferenceKind.DISLIKED else use.weight for use in uses]
        signs = [-1.0 if use.row.kind is PreferenceKind.DISLIKED else 1.0 for use in uses[pairs:]]
        return PreferenceBatch(
            latents=latents,
            condition=condition,
            timesteps=timesteps,
            noise=noise,
            reference=self._reference(
                number, latents, condition, timesteps=timesteps, noise=noise, comes_again=comes_again
            ),
            pairs=pairs,
            weights=latents.new_tensor([use.weight for use in uses]),
            signs=latents.new_tensor(signs),
            liked=latents.new_tensor([*likes[:pairs], *([0.0] * pairs), *likes[pairs:], *([0.0] * len(preserved))]),
            preserved=len(preserved),
        )

    def _uses(self, number: int) -> list["_Use"]:
        size, count = self._plan.spec.batch_size, len(self._rows)
        found = []
        for position in range(number * size, (number + 1) * size):
            draw, place = divmod(position, count)
            draw %= self._plan.spec.noise_draws  # the last batch of a cycle takes from the first pass again
            index = self._order(draw)[place]
            found.append(_Use(self._rows[index], content_key(self._rows[index]), self._weights[index], draw))
        return found

    def _preserved_of(self, number: int) -> list[tuple[str, torch.Tensor]]:
        """What is to be preserved and has its turn: half as many as opinions."""
        every, count = self._preserved, -(-self._plan.spec.batch_size // 2)
        return [every[(number * count + i) % len(every)] for i in range(count)] if every else []

    def _order(self, draw: int) -> list[int]:
        if draw not in self._orders:
            rng = np.random.default_rng([self._plan.seed, _ORDER, draw])
            self._orders[draw] = rng.permutation(len(self._rows)).tolist()
        return self._orders[draw]

    def _timestep(self, use: "_Use") -> int:
        return self._spread(np.random.default_rng([self._plan.seed, _TIMESTEP, use.key]).random(), use.draw)

    def _spread(self, start: float, draw: int) -> int:
        # The golden ratio spreads draws evenly over the noise levels, however many there are.
        return int((start + draw * _GOLDEN) % 1.0 * self._learner.denoiser.timesteps)

    def _noise(self, use: "_Use", shape: Sequence[int]) -> torch.Tensor:
        return seeded_noise(shape, self._plan.seed, _NOISE, use.key, use.draw)

    @torch.no_grad()
    def _reference(
        self,
        number: int,
        latents: torch.Tensor,
        condition: Condition,
        *,
        timesteps: torch.Tensor,
        noise: torch.Tensor,
        comes_again: bool,
    ) -> Reference:
        if number in self._kept:
            return self._kept[number].to(latents.device)
        denoiser = self._learner.denoiser
        self._learner.switch(False)
        try:
            predictions = denoiser.predict(denoiser.add_noise(latents, noise, timesteps), timesteps, condition)
        finally:
            self._learner.switch(True)
        target = denoiser.target(latents, noise, timesteps)
        errors = (predictions.float() - target.float()).square().mean(dim=(1, 2, 3))
        found = Reference(errors, predictions.detach())
        size = predictions.nbytes
        if comes_again and size <= self._room:
            self._room -= size
            self._kept[number] = found.to(torch.device("cpu"))
        return found


@dataclass(frozen=True, slots=True)
class _Use:
    """A row the `draw`-th time it is used."""

    row: PreferenceRow
    key: int
    weight: float
    draw: int
