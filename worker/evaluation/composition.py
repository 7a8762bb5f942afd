"""What anybody sees in a picture at first glance: colors of subject and background, size, place, contrast."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

SIDE = 64
"""Pixels a side that pictures are looked at in."""
_BORDER = 3


def thumbnail(picture: Image.Image) -> Array:
    """The picture as (64, 64, 3), 0 to 1."""
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def distance(one: Array, other: Array) -> float:
    """Mean difference of two thumbnails, 0 to 1."""
    return float(np.abs(one - other).mean())


def describe(pictures: Sequence[Image.Image]) -> Array:
    """Figures (pictures, 18), each of about the size of 1.

    The subject is what differs from the border's median color. Of it and of the background: red, green, blue, the
    distance from gray, and the lightness; of the subject also its place (x, y), its size and how far it spreads;
    of the whole: mean lightness, contrast, mean distance from gray, and detail.
    """
    return np.stack([_describe(thumbnail(picture)) for picture in pictures])


def _describe(pixels: Array) -> Array:
    border = np.ones((SIDE, SIDE), dtype=bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    ground = np.median(pixels[border], axis=0)
    difference = np.linalg.norm(pixels - ground, axis=-1)
    mass = np.clip(difference / max(float(np.quantile(difference, 0.98)), 0.05) - 0.25, 0, 1)
    total = float(mass.sum())
    weight = mass / total if total > 0 else np.full((SIDE, SIDE), 1 / SIDE**2)
    subject = (pixels * weight[..., None]).sum(axis=(0, 1))
    rows, columns = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
    x, y = float((columns * weight).sum()), float((rows * weight).sum())
    spread = float((((columns - x) ** 2 + (rows - y) ** 2) * weight).sum()) ** 0.5
    light = pixels.mean(axis=-1)
    detail = float(np.abs(np.diff(light, axis=0)).mean() + np.abs(np.diff(light, axis=1)).mean())
    place = [x, y, total / SIDE**2, spread]
    whole = [float(light.mean()), float(light.std()), float(np.ptp(pixels, axis=-1).mean()), detail]
    return np.array([*_color(subject), *_color(ground), *place, *whole])


def _color(rgb: Array) -> list[float]:
    return [*rgb.tolist(), float(np.ptp(rgb)), float(rgb.mean())]
