"""The true quality of an adapter: fresh requests and seeds that neither training nor evaluation has seen."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from bench.safety.quality import joint_of
from tiny import pipeline as tiny_pipeline
from tiny.evaluate import held_out, paint
from tiny.scorer import score
from tiny.taste import Taste, draw_caption
from tiny.world import Caption

PARTIAL, FULL = 96, 48
_STEPS = 10  # half of what users get; the readings are the same and the time is half
_SEED = 700_000_000
_LOVED = 0.5  # degree of taste above which a picture is to it


@dataclass(frozen=True, slots=True)
class Truth:
    """What the same requests gave with the adapter and without: shares of pictures, and how they are paired.

    `joint` counts pictures by their level (see `bench.safety.quality`); `taste` is the share to the taste where the
    caption leaves it open, `full` the share with all four attributes right on full captions: base's, then candidate's.
    """

    joint: list[list[int]]
    taste: tuple[float, float]
    full: tuple[float, float]


def measure(adapter: Path, model: Path, taste: Taste) -> Truth:
    """Draw the requests with the adapter of this file, and compare with the base's pictures of the same."""
    pipeline = tiny_pipeline.load(model)
    pipeline.load_lora_weights(adapter, use_safetensors=True)
    return compare(_draw(pipeline), _base(model), taste)


def compare(candidate: list[Image.Image], base: list[Image.Image], taste: Taste) -> Truth:
    """Read both sides' pictures of `requests()`."""
    captions = [caption for caption, _ in requests()]
    sides = [_read(images, captions, taste) for images in (base, candidate)]
    is_open = np.array([taste.is_open(caption) for caption in captions[:PARTIAL]])
    levels = [side.follows * (1 + side.loved) for side in sides]
    loved = [float(side.loved[:PARTIAL][is_open].mean()) for side in sides]
    full = [float(side.follows[PARTIAL:].mean()) for side in sides]
    return Truth(joint_of(levels[0].tolist(), levels[1].tolist()), (loved[0], loved[1]), (full[0], full[1]))


@lru_cache(maxsize=1)
def requests() -> list[tuple[Caption, int]]:
    """Captions as users write them, then full ones that the base was not trained on; each with a seed of its own."""
    rng = np.random.default_rng(_SEED)
    captions = [draw_caption(rng) for _ in range(PARTIAL)] + [caption for caption, _ in held_out(FULL)]
    return [(caption, _SEED + index) for index, caption in enumerate(captions)]


@dataclass(frozen=True, slots=True)
class _Side:
    follows: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"
    loved: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"


def _read(images: list[Image.Image], captions: list[Caption], taste: Taste) -> _Side:
    follows = [score(image, caption).all_four for image, caption in zip(images, captions, strict=True)]
    loved = [taste.degree(image) > _LOVED for image in images]
    return _Side(np.array(follows, dtype=np.int64), np.array(loved, dtype=np.int64))


def _draw(pipeline: StableDiffusionPipeline) -> list[Image.Image]:
    with torch.random.fork_rng():
        return [image for _, image in paint(pipeline, requests(), steps=_STEPS)]


@lru_cache(maxsize=1)
def _base(model: Path) -> list[Image.Image]:
    return _draw(tiny_pipeline.load(model))
