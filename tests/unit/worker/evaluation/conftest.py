"""Opinions on drawn pictures of the tiny world, and the tiny model with adapters of known effect."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from core.domain.base_model import LoadOptions
from core.domain.generation import GenerationDefaults, SchedulerName
from core.domain.model_update import Split
from core.domain.preference import PictureRef, PreferenceKind, PreferenceManifest, PreferenceRow
from tiny.taste import COOL, WARM
from tiny.world import KNOWN_SHAPES, Caption, Color, draw
from worker.engine.pipeline import load_pipeline, silence

TINY = Path(__file__).parents[4] / "tiny" / "lorikeet-tiny"
QUICK = GenerationDefaults(width=64, height=64, steps=2, guidance_scale=1.0, scheduler=SchedulerName.DDIM)
"""Two steps without guidance: rough pictures, but quick ones."""


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_alone() -> None:
    silence()
    torch.set_num_threads(1)


class Album:
    """Drawn pictures as files, by digest."""

    def __init__(self, folder: Path) -> None:
        self.pictures: dict[str, Path] = {}
        self._folder, self._rng, self._count = folder, np.random.default_rng(9), 0

    def add(self, image: Image.Image) -> PictureRef:
        file = io.BytesIO()
        image.save(file, "PNG")
        sha256 = hashlib.sha256(file.getvalue()).hexdigest()
        path = self._folder / f"{sha256}.png"
        path.write_bytes(file.getvalue())
        self.pictures[sha256] = path
        return PictureRef(image_id=UUID(int=0), object_key=sha256, sha256=sha256)

    def drawn(self, colors: Sequence[Color], shape: Any) -> PictureRef:
        caption = Caption(shape, color=colors[int(self._rng.integers(len(colors)))])
        return self.add(draw(caption, self._rng))

    def row(self, kind: PreferenceKind, split: Split) -> PreferenceRow:
        """Warm colors are liked better than cool ones."""
        shape = KNOWN_SHAPES[int(self._rng.integers(len(KNOWN_SHAPES)))]
        self._count += 1
        return PreferenceRow(
            feedback_id=UUID(int=self._count),
            kind=kind,
            prompt=Caption(shape).text,
            picture=self.drawn(COOL if kind is PreferenceKind.DISLIKED else WARM, shape),
            rejected=self.drawn(COOL, shape) if kind is PreferenceKind.PAIR else None,
            weight=1.0,
            split=split,
        )


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Album:
    return Album(tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="session")
def manifest(album: Album) -> PreferenceManifest:
    """16 pairs to learn from, 6 held out."""
    splits = [Split.TRAIN] * 16 + [Split.HELD_OUT] * 6
    return PreferenceManifest(rows=tuple(album.row(PreferenceKind.PAIR, split) for split in splits))


@pytest.fixture(scope="session")
def warm_lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that a few steps on warm pictures have taught."""
    return save_lora(tmp_path_factory.mktemp("warm") / "adapter.safetensors", steps=12)


@pytest.fixture(scope="session")
def zero_lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that does nothing."""
    return save_lora(tmp_path_factory.mktemp("zero") / "adapter.safetensors", steps=0)


def save_lora(file: Path, *, steps: int) -> Path:
    """Fit a LoRA on the UNet to warm pictures of captions that name no color, and write it as diffusers does."""
    pipeline: Any = load_pipeline(TINY, LoadOptions(), device="cpu")
    unet = pipeline.unet
    torch.manual_seed(0)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]
    unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=targets))
    learned = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer, rng = torch.optim.Adam(learned, lr=5e-3), np.random.default_rng(1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        captions = [Caption(KNOWN_SHAPES[int(rng.integers(6))]) for _ in range(8)]
        warm = [draw(Caption(c.shape, color=WARM[int(rng.integers(3))]), rng) for c in captions]
        pixels = torch.from_numpy(np.stack([np.asarray(each, dtype=np.float32) for each in warm])) / 127.5 - 1
        with torch.no_grad():
            latents = pipeline.vae.encode(pixels.permute(0, 3, 1, 2)).latent_dist.mode()
            latents = latents * pipeline.vae.config.scaling_factor
            told = pipeline.encode_prompt([c.text for c in captions], "cpu", 1, False)[0]
        noise = torch.randn(latents.shape, generator=generator)
        times = torch.randint(0, 1000, (8,), generator=generator)
        noisy = pipeline.scheduler.add_noise(latents, noise, times)
        target = pipeline.scheduler.get_velocity(latents, noise, times)
        loss = (unet(noisy, times, told).sample - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layers = get_peft_model_state_dict(unet)
    type(pipeline).save_lora_weights(file.parent, unet_lora_layers=layers, weight_name=file.name)
    return file
