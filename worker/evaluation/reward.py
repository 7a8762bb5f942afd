"""What adapters think of opinions: their implicit rewards on pictures that users judged."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from core.domain.errors import JobStopped
from core.domain.generation import GenerationDefaults, ResolvedAdapter
from core.domain.preference import PreferenceRow
from worker.engine.adapter_mix import mix_of
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_row import AdapterRows
from worker.engine.denoiser import Condition, Denoiser
from worker.engine.implicit_reward import FIXED_TIMESTEPS, mean_errors
from worker.engine.pipeline import Pipeline
from worker.evaluation.opinion import Scored

_BATCH = 16


class RewardReader:
    """Reads rewards of adapters that are loaded as they are for serving, on the same pictures and noise for all.

    Args:
        pipeline: The base model; it is this reader's alone.
        rows: Opinions, all of their pictures at hand.
        pictures: Where those are, by digest. They are brought to the size that the model draws.
        defaults: Say which size.
        should_stop: Asked between batches; then JobStopped is raised.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        rows: Sequence[PreferenceRow],
        pictures: Mapping[str, Path],
        *,
        defaults: GenerationDefaults,
        should_stop: Callable[[], bool],
    ) -> None:
        self._pipeline: Any = pipeline
        self._device: torch.device = self._pipeline._execution_device
        self._dressed = AdapterRows(pipeline)
        self._denoiser = Denoiser(pipeline.unet, pipeline.scheduler.config, device=self._device)
        self._rows, self._should_stop = rows, should_stop
        self._size = (defaults.width, defaults.height)
        shown = [(row, row.picture) for row in rows] + [(row, row.rejected) for row in rows if row.rejected]
        self._prompts = [row.prompt for row, _ in shown]
        self._seeds = [_seed(row) for row, _ in shown]
        latents = {ref.sha256: self._latent(pictures[ref.sha256]) for _, ref in shown}
        self._latents = torch.cat([latents[ref.sha256] for _, ref in shown])
        self._base: torch.Tensor | None = None

    def read(self, adapters: Sequence[ResolvedAdapter], files: Mapping[str, Path]) -> list[Scored]:
        """The rewards under these adapters, against the bare base.

        Raises:
            AdapterUnusable: one does not fit the model.
            JobStopped: asked to.
        """
        if self._base is None:
            self._base = self._errors((), {})
        rewards = iter((self._base - self._errors(adapters, files)).tolist())
        picture = [next(rewards) for _ in self._rows]
        rejected = [next(rewards) if row.rejected else None for row in self._rows]
        return [Scored(*each) for each in zip(self._rows, picture, rejected, strict=True)]

    def _errors(self, adapters: Sequence[ResolvedAdapter], files: Mapping[str, Path]) -> torch.Tensor:
        weights = {
            each.sha256: read_adapter(files[each.sha256], self._pipeline, sha256=each.sha256) for each in adapters
        }
        self._dressed.wear([mix_of(adapters, weights)])
        conditions = {prompt: self._condition(prompt) for prompt in dict.fromkeys(self._prompts)}
        found = []
        for start in range(0, len(self._prompts), _BATCH):
            if self._should_stop():
                raise JobStopped
            part = slice(start, start + _BATCH)
            condition = Condition.stack([conditions[prompt] for prompt in self._prompts[part]])
            found.append(
                mean_errors(
                    self._denoiser,
                    self._latents[part],
                    condition,
                    timesteps=FIXED_TIMESTEPS,
                    seeds=self._seeds[part],
                    batch_size=_BATCH,
                )
            )
        return torch.cat(found)

    @torch.no_grad()
    def _condition(self, prompt: str) -> Condition:
        hidden_states, _, *pooled = self._pipeline.encode_prompt(
            [prompt], device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if not pooled:
            return Condition(hidden_states)
        width, height = self._size
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=self._device, dtype=hidden_states.dtype)
        return Condition(hidden_states, pooled[0], time_ids)

    @torch.no_grad()
    def _latent(self, path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), self._size, Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        vae = self._pipeline.vae
        vae.to(torch.float32)  # SDXL's overflows in float16
        mean = vae.encode(pixels.to(vae.device)).latent_dist.mode().to(self._device)
        latent: torch.Tensor = (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
        return latent


def _seed(row: PreferenceRow) -> int:
    """The noise of an opinion, both pictures of a pair alike."""
    said = f"{row.prompt}\n{row.picture.sha256}\n{row.rejected.sha256 if row.rejected else ''}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big")
