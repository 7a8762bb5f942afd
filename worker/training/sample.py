"""Pictures drawn while training goes on, with the adapter as it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from core.domain.generation import GenerationDefaults
from worker.training.learner import Learner


@torch.no_grad()
def draw_samples(
    learner: Learner, prompts: tuple[str, ...], *, seed: int, resolution: int, defaults: GenerationDefaults
) -> list[Image.Image]:
    """One square picture for each prompt, `resolution` pixels a side, each from the same seed.

    Training is not disturbed: chance comes from a generator of its own, and the scheduler is a fresh one.
    """
    pipe = learner.pipe
    with _own_scheduler(pipe):
        return [
            _decode(pipe, _draw(pipe, [prompt], [seed], resolution=resolution, defaults=defaults)) for prompt in prompts
        ]


@torch.no_grad()
def draw_as_before(
    learner: Learner, prompts: Sequence[str], seeds: Sequence[int], *, resolution: int, defaults: GenerationDefaults
) -> torch.Tensor:
    """Latents (n, channels, height, width) of square pictures that the base draws together, with the adapter off."""
    learner.switch(False)
    try:
        with _own_scheduler(learner.pipe):
            return _draw(learner.pipe, prompts, seeds, resolution=resolution, defaults=defaults).float()
    finally:
        learner.switch(True)


@contextmanager
def _own_scheduler(pipe: Any) -> Iterator[None]:
    scheduler, pipe.scheduler = pipe.scheduler, type(pipe.scheduler).from_config(pipe.scheduler.config)
    try:
        yield
    finally:
        pipe.scheduler = scheduler


def _draw(
    pipe: Any, prompts: Sequence[str], seeds: Sequence[int], *, resolution: int, defaults: GenerationDefaults
) -> torch.Tensor:
    latents: torch.Tensor = pipe(
        list(prompts),
        width=resolution,
        height=resolution,
        num_inference_steps=defaults.steps,
        guidance_scale=defaults.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="latent",
        return_dict=False,
    )[0]
    return latents


def _decode(pipe: Any, latents: torch.Tensor) -> Image.Image:
    # The VAE is in float32 here whatever the UNet is in, so the pipeline cannot decode by itself.
    config = pipe.vae.config
    pixels = pipe.vae.decode(latents.float() / config.scaling_factor + (config.shift_factor or 0.0)).sample
    pictures: list[Image.Image] = pipe.image_processor.postprocess(pixels)
    return pictures[0]
