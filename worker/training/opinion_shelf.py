"""The pictures and prompts of opinions, as the UNet takes them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.domain.errors import DatasetUnusable
from core.domain.preference import PreferenceRow
from worker.engine.denoiser import Condition
from worker.training.augment import Change, apply_change
from worker.training.learner import Learner


class OpinionShelf:
    """Latents and embeddings, each made once and alone, so that nothing depends on what was made before.

    Raises:
        DatasetUnusable: a row's picture is not there.
    """

    def __init__(
        self, rows: Sequence[PreferenceRow], pictures: Mapping[str, Path], learner: Learner, *, resolution: int
    ) -> None:
        self._learner, self._resolution = learner, resolution
        digests = [ref.sha256 for row in rows for ref in (row.picture, row.rejected) if ref is not None]
        self._paths = {sha256: pictures.get(sha256) for sha256 in digests}
        if absent := [sha256 for sha256, path in self._paths.items() if path is None]:
            raise DatasetUnusable(f"{len(absent)} pictures of the training data are gone, {absent[0]} for one.")
        self._prompts = list(dict.fromkeys(row.prompt for row in rows))
        self._latents: dict[str, torch.Tensor] = {}
        self._conditions: dict[str, Condition] = {}

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self._paths)

    def fill(self, on_picture: Callable[[int], None] = lambda _: None) -> None:
        """Make everything now; `on_picture(n)` after the n-th picture."""
        for prompt in self._prompts:
            self.condition([prompt])
        for index, sha256 in enumerate(self._paths):
            self.latent(sha256)
            on_picture(index + 1)

    def latent(self, sha256: str) -> torch.Tensor:
        """Latents (1, channels, height, width) of a picture."""
        if sha256 not in self._latents:
            path = self._paths[sha256]
            assert path is not None
            with Image.open(path) as image:
                pixels = np.asarray(apply_change(image, Change(), resolution=self._resolution), dtype=np.float32)
            scaled = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]
            self._latents[sha256] = self._learner.encode_pixels(scaled)
        return self._latents[sha256]

    @torch.no_grad()
    def condition(self, prompts: Sequence[str]) -> Condition:
        """What the UNet is told of these prompts."""
        for prompt in prompts:
            if prompt not in self._conditions:
                self._conditions[prompt] = self._learner.encode_captions([prompt])
        return Condition.stack([self._conditions[prompt] for prompt in prompts])
