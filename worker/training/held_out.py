"""A look at opinions that are held out: does the reward agree with them?"""

from collections.abc import Sequence

import torch

from core.domain.errors import TrainingDiverged
from core.domain.preference import HeldOutLook, PreferenceKind, PreferenceRow
from worker.engine.implicit_reward import FIXED_TIMESTEPS, mean_errors
from worker.training.learner import Learner
from worker.training.opinion_shelf import OpinionShelf
from worker.training.preference_data import by_content, content_key, lay_out

MOST_LOOKED_AT = 64
"""Held-out opinions in a look; an evaluation afterwards sees all of them."""


class HeldOut:
    """Held-out opinions, at noise levels and with noise that never change; the reference's errors are kept.

    Args:
        rows: The held-out rows; at least one. The first MOST_LOOKED_AT by content are looked at.
        shelf: Holds their pictures.
        learner: Whose adapter is judged.
    """

    def __init__(self, rows: Sequence[PreferenceRow], shelf: OpinionShelf, learner: Learner) -> None:
        self._learner, self._shelf = learner, shelf
        rows = sorted(by_content(rows)[:MOST_LOOKED_AT], key=lambda row: row.rejected is None)
        self._digests, self._pairs = lay_out(rows)
        self._shown = [*rows[: self._pairs], *rows]
        kinds = [row.kind for row in rows[self._pairs :]]
        self._signs = torch.tensor([-1.0 if kind is PreferenceKind.DISLIKED else 1.0 for kind in kinds])
        self._reference: torch.Tensor | None = None

    def __len__(self) -> int:
        """How many opinions are looked at."""
        return self._pairs + len(self._signs)

    def look(self, step: int) -> HeldOutLook:
        """Judge the adapter as it is now.

        Raises:
            TrainingDiverged: an error is not finite.
        """
        if self._reference is None:
            self._learner.switch(False)
            try:
                self._reference = self._errors()
            finally:
                self._learner.switch(True)
        errors, reference = self._errors(), self._reference
        rewards = reference - errors
        if not rewards.isfinite().all():  # the journal may come to this step's loss later
            raise TrainingDiverged(
                f"An error on held-out opinions after step {step} is not finite: try a lower learning rate."
            )
        count = self._pairs
        single = rewards[2 * count :]
        zero = single.median() if len(single) else single.new_zeros(())
        margins = torch.cat([rewards[:count] - rewards[count : 2 * count], self._signs * (single - zero)])
        liked = torch.cat([torch.ones(count), torch.zeros(count), self._signs.clamp(min=0)])
        ratio = (liked * errors).sum() / (liked * reference).sum() if liked.any() else torch.ones(())
        return HeldOutLook(
            step=step,
            accuracy=float((margins > 0).float().mean()),
            margin=float(margins.mean()),
            chosen_error_ratio=float(ratio),
        )

    def _errors(self) -> torch.Tensor:
        latents = torch.cat([self._shelf.latent(sha256) for sha256 in self._digests])
        condition = self._shelf.condition([row.prompt for row in self._shown])
        seeds = [content_key(row) for row in self._shown]  # both pictures of a pair have the row's
        return mean_errors(self._learner.denoiser, latents, condition, timesteps=FIXED_TIMESTEPS, seeds=seeds)
