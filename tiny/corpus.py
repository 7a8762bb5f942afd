"""The pictures that training sees, and the captions it reads them by."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import CLIPTokenizer

from tiny.world import KNOWN_SHAPES, NOVEL_SHAPES, SIDE, Caption, Color, Size, draw, full_captions, is_held_out

_FULL_SHARE = 0.5
_KEPT_SHARE = 0.5
_EMPTY_SHARE = 0.1  # for classifier-free guidance
_SIZES, _COLORS = list(Size), list(Color)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pictures (n, 64, 64, 3) uint8 and their labels (n, 4): shape, color, size, background as numbers from 1."""

    pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    labels: torch.Tensor


def draw_corpus(count: int, *, seed: int) -> Corpus:
    """Draw the world evenly, without any combination that is held out and without the novel shapes."""
    captions = [caption for caption in full_captions() if not is_held_out(caption)]
    rng = np.random.default_rng([seed, 1])
    chosen = [captions[i] for i in rng.permutation(np.resize(np.arange(len(captions)), count)).tolist()]
    pictures = np.stack([np.asarray(draw(caption, rng)) for caption in chosen])
    return Corpus(pictures, torch.tensor([_label(caption) for caption in chosen]))


def draw_varied(count: int, *, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pictures for the autoencoder (n, 64, 64, 3): the novel shapes and plain doodles, which it has to carry too."""
    rng = np.random.default_rng([seed, 2])
    novel = list(full_captions(NOVEL_SHAPES))
    drawn = [
        np.asarray(draw(novel[int(rng.integers(len(novel)))], rng) if rng.random() < 0.5 else _doodle(rng))
        for _ in range(count)
    ]
    return np.stack(drawn)


class CaptionTable:
    """Token ids of every caption, full or partial, so that a training step only looks them up."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        texts = [""]
        self._row = torch.zeros(len(KNOWN_SHAPES) + 1, len(Color) + 1, len(Size) + 1, len(Color) + 1, dtype=torch.long)
        for shape in KNOWN_SHAPES:
            for color in (None, *Color):
                for size in (None, *Size):
                    for background in (None, *Color):
                        caption = Caption(shape, color, size, background)
                        self._row[tuple(_label(caption))] = len(texts)
                        texts.append(caption.text)
        self._ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids

    def sample(self, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Ids (n, window) for labels (n, 4): half of them full, one in ten empty, the others with parts left out."""
        count = len(labels)
        full = torch.rand(count, 1, generator=generator) < _FULL_SHARE
        kept = full | (torch.rand(count, 4, generator=generator) < _KEPT_SHARE)
        kept[:, 0] = True
        empty = torch.rand(count, 1, generator=generator) < _EMPTY_SHARE
        shape, color, size, background = (labels * kept * ~empty).unbind(1)
        ids: torch.Tensor = self._ids[self._row[shape, color, size, background]]
        return ids


def _label(caption: Caption) -> list[int]:
    return [
        KNOWN_SHAPES.index(caption.shape) + 1,
        _COLORS.index(caption.color) + 1 if caption.color else 0,
        _SIZES.index(caption.size) + 1 if caption.size else 0,
        _COLORS.index(caption.background) + 1 if caption.background else 0,
    ]


def _doodle(rng: np.random.Generator) -> Image.Image:
    """Boxes, blobs and lines in any color, smoothed by drawing them twice as large."""
    canvas = Image.new("RGB", (2 * SIDE, 2 * SIDE), tuple(rng.integers(256, size=3).tolist()))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(1, 8))):
        (left, right), (top, bottom) = np.sort(rng.integers(2 * SIDE, size=(2, 2)), axis=1).tolist()
        fill = tuple(rng.integers(256, size=3).tolist())
        match int(rng.integers(3)):
            case 0:
                pen.rectangle((left, top, right, bottom), fill=fill)
            case 1:
                pen.ellipse((left, top, right, bottom), fill=fill)
            case _:
                pen.line((left, top, right, bottom), fill=fill, width=int(rng.integers(2, 10)))
    return canvas.resize((SIDE, SIDE), Image.Resampling.BOX)
