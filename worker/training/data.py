"""Pictures and captions → batches of latents and embeddings, in an order that a resumed run finds again."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from PIL import Image

from core.domain.training import TrainingPlan
from worker.engine.denoiser import Condition
from worker.training.augment import Change, apply_change, draw_change
from worker.training.learner import Learner
from worker.training.loss import Batch

B = TypeVar("B", covariant=True)  # noqa: PLC0105 - the field's letter for a batch

_ORDER, _CHANGE = 0, 1  # keep the two streams of chance apart


class Source(Protocol[B]):
    """Where batches come from. What `take` gives depends on `position` alone: set it to go on from there."""

    position: int

    def take(self) -> B: ...


@dataclass(frozen=True, slots=True)
class Example:
    """A picture on disk and what it shows."""

    path: Path
    caption: str


def with_trigger(caption: str, trigger_word: str | None) -> str:
    """Put the trigger word in front, unless it is there already."""
    if trigger_word is None or re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", caption, re.IGNORECASE):
        return caption
    return f"{trigger_word}, {caption}" if caption else trigger_word


class PictureSource:
    """Batches for fine-tuning: every picture once per pass, each pass in an order of its own.

    Latents and embeddings are kept once made, except of pictures whose crop or color changed and of captions whose
    encoder learns. Each is made alone, so what is in a cache can never change a result.
    """

    def __init__(self, examples: Sequence[Example], learner: Learner, plan: TrainingPlan) -> None:
        self.position = 0
        self._paths = [example.path for example in examples]
        self._captions = [with_trigger(example.caption, plan.spec.trigger_word) for example in examples]
        self._learner, self._plan = learner, plan
        self._latents: dict[tuple[int, bool], torch.Tensor] = {}
        self._conditions: dict[str, Condition] = {}
        self._order: tuple[int, list[int]] = (-1, [])

    def take(self) -> Batch:
        """The next batch_size pictures; a batch may reach over the end of a pass into the next."""
        rows = [self._draw(self.position + i) for i in range(self._plan.spec.batch_size)]
        self.position += len(rows)
        latents = torch.cat([self._latent(index, change) for index, change, _ in rows])
        return Batch(latents, self._condition([caption for _, _, caption in rows]))

    def fill(self, on_picture: Callable[[int], None] = lambda _: None) -> int:
        """Make now what will be kept anyway; gives the number of latents kept. `on_picture(n)` after the n-th."""
        odds = self._plan.spec.augment
        for index, caption in enumerate(self._captions):
            if max(odds.crop, odds.color) < 1.0:
                for flip in {odds.flip == 1.0, odds.flip > 0.0}:
                    self._latent(index, Change(flip=flip))
            if not self._learner.trains_text_encoder:
                self._condition([caption])
            on_picture(index + 1)
        return len(self._latents)

    def _draw(self, position: int) -> tuple[int, Change, str]:
        epoch, place = divmod(position, len(self._paths))
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._plan.seed, _ORDER, epoch])
            self._order = (epoch, rng.permutation(len(self._paths)).tolist())
        index = self._order[1][place]
        rng = np.random.default_rng([self._plan.seed, _CHANGE, position])
        caption = "" if rng.random() < self._plan.spec.caption_dropout else self._captions[index]
        return index, draw_change(self._plan.spec.augment, rng), caption

    def _latent(self, index: int, change: Change) -> torch.Tensor:
        key = (index, change.flip)
        if change.keeps_pixels and key in self._latents:
            return self._latents[key]
        with Image.open(self._paths[index]) as image:
            pixels = np.asarray(apply_change(image, change, resolution=self._plan.resolution), dtype=np.float32)
        latent = self._learner.encode_pixels(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None])
        if change.keeps_pixels:
            self._latents[key] = latent
        return latent

    def _condition(self, captions: list[str]) -> Condition:
        if self._learner.trains_text_encoder:
            return self._learner.encode_captions(captions)
        for caption in captions:
            if caption not in self._conditions:
                with torch.no_grad():
                    self._conditions[caption] = self._learner.encode_captions([caption])
        return Condition.stack([self._conditions[caption] for caption in captions])
