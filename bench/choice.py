"""Pairs of pictures that the tiny base model drew for one caption each, kept in a folder: drawing is the dear part."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from tiny.evaluate import paint
from tiny.taste import draw_caption
from tiny.world import Caption, parse

_CHUNK = 16  # pairs
_SEEDS = 1_000_000  # of one simulated person


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of one caption."""

    caption: Caption
    one: Image.Image
    other: Image.Image


def endless_pairs(pipeline: StableDiffusionPipeline, *, seed: int, folder: Path) -> Iterator[Pair]:
    """Pair after pair, the same for the same seed; drawn where the folder does not hold them yet."""
    chunk = 0
    while True:
        yield from _chunk(pipeline, seed=seed, chunk=chunk, folder=folder)
        chunk += 1


def _chunk(pipeline: StableDiffusionPipeline, *, seed: int, chunk: int, folder: Path) -> Iterator[Pair]:
    path = folder / f"{seed}-{chunk:04d}.npz"
    if not path.exists():
        rng = np.random.default_rng([seed, chunk])
        captions = [draw_caption(rng) for _ in range(_CHUNK)]
        first = seed * _SEEDS + chunk * 2 * _CHUNK
        asked = [(caption, first + index) for index, caption in enumerate(c for c in captions for _ in range(2))]
        with torch.random.fork_rng():
            pictures = np.stack([np.asarray(image) for _, image in paint(pipeline, asked)])
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft.npz")
        np.savez_compressed(draft, pictures=pictures, captions=np.array([caption.text for caption in captions]))
        draft.rename(path)
    with np.load(path) as held:
        captions = [parse(str(text)) for text in held["captions"]]
        images = [Image.fromarray(pixels) for pixels in held["pictures"]]
    for index, caption in enumerate(captions):
        yield Pair(caption, images[2 * index], images[2 * index + 1])
