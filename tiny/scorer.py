"""Read shape, color, size and background off a picture of the tiny world, with rules and no training."""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from tiny import outline
from tiny.world import RADIUS, RGB, SIDE, Caption, Color, Shape, Size

_FRAME = 48  # side of the frame in which outlines are compared
_FRAME_AREA = 400.0  # every shape is scaled to this area in it
_BLURS = (0.0, 1.5, 3.0)  # a decoder draws small pictures softly
_BORDER = 3
_LEAST_INK = 20.0  # pixels
Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is on a picture. `shape` and `size` are None where nothing stands out from the background.

    `fit` is the cosine (0 to 1) between the silhouette and the nearest outline.
    """

    shape: Shape | None
    color: Color
    size: Size | None
    background: Color
    fit: float


@dataclass(frozen=True, slots=True)
class Score:
    """For each attribute: does the picture show what the caption says? True where the caption is silent."""

    shape: bool
    color: bool
    size: bool
    background: bool

    @property
    def all_four(self) -> bool:
        return self.shape and self.color and self.size and self.background


def score(image: Image.Image, caption: Caption) -> Score:
    """Compare a picture with its caption."""
    seen = read(image)
    return Score(
        shape=seen.shape == caption.shape,
        color=caption.color in (None, seen.color),
        size=caption.size in (None, seen.size),
        background=caption.background in (None, seen.background),
    )


def read(image: Image.Image) -> Reading:
    """Read one picture of any size; it is brought to 64x64 RGB first."""
    alpha, ink, paper = _silhouette(image)
    area = float(alpha.sum())
    background, color = _nearest_color(paper), _nearest_color(ink)
    if area < _LEAST_INK or color == background:
        return Reading(None, color, None, background, 0.0)
    shape, fit = _nearest_shape(alpha, area)
    radius = (area / _unit_area(shape)) ** 0.5
    middle = (RADIUS[Size.SMALL] * RADIUS[Size.LARGE]) ** 0.5
    return Reading(shape, color, Size.LARGE if radius > middle else Size.SMALL, background, fit)


def locate(image: Image.Image) -> tuple[float, float]:
    """Where the middle of the shape lies: x and y in pixels of 64, from the left and from the top."""
    alpha, _, _ = _silhouette(image)
    return _middle(alpha) if alpha.sum() >= _LEAST_INK else (SIDE / 2, SIDE / 2)


def _silhouette(image: Image.Image) -> tuple[Array, Array, Array]:
    """How much of each pixel is the shape (64, 64), 0 to 1; the colors (3,) of shape and background, 0 to 255."""
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    border = np.ones((SIDE, SIDE), dtype=bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    paper = np.median(pixels[border], axis=0)
    ink = _ink(pixels, paper)
    direction = ink - paper
    alpha = np.clip((pixels - paper) @ direction / max(float(direction @ direction), 1.0), 0, 1)
    alpha[alpha < 0.25] = 0  # faint ghosts of a diffusion model are not part of the silhouette
    return alpha, ink, paper


def _middle(alpha: Array) -> tuple[float, float]:
    """The centroid (x, y) of a silhouette that is not empty."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    area = float(alpha.sum())
    return float((columns * alpha).sum()) / area, float((rows * alpha).sum()) / area


def _ink(pixels: Array, paper: Array) -> Array:
    """The median color of what differs most from the background: (3,), 0 to 255."""
    distance = np.linalg.norm(pixels - paper, axis=-1)
    strongest = np.partition(distance.ravel(), -60)[-60:].mean()  # a small cross covers some 150 pixels
    ink: Array = np.median(pixels[distance >= 0.75 * strongest], axis=0)
    return ink


def _nearest_color(rgb: Array) -> Color:
    return min(Color, key=lambda color: float(np.linalg.norm(rgb - np.array(RGB[color]))))


def _nearest_shape(alpha: Array, area: float) -> tuple[Shape, float]:
    """Scale the silhouette (64, 64) to a set area about its centroid and compare it with every outline."""
    x, y = _middle(alpha)
    scale = (area / _FRAME_AREA) ** 0.5
    half = _FRAME / 2
    frame = Image.fromarray(alpha.astype(np.float32)).transform(
        (_FRAME, _FRAME),
        Image.Transform.AFFINE,
        (scale, 0, x - scale * half, 0, scale, y - scale * half),
        Image.Resampling.BILINEAR,
    )
    silhouette = np.asarray(frame, dtype=np.float64).ravel()
    names, templates = _templates()
    cosine = templates @ silhouette / max(float(np.linalg.norm(silhouette)), 1e-9)
    best = int(cosine.argmax())
    return names[best], float(cosine[best])


@cache
def _templates() -> tuple[list[Shape], Array]:
    """Each outline at its set area, a little moved, scaled and blurred: names (n), unit vectors (n, 48*48)."""
    names: list[Shape] = []
    rows: list[Array] = []
    variants = list(itertools.product((0.92, 1.0, 1.08), (-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0)))
    for shape in Shape:
        x, y = _centroid(shape)
        for scale, dx, dy in variants:
            radius = scale * (_FRAME_AREA / _unit_area(shape)) ** 0.5
            center = (_FRAME / 2 - x * radius + dx, _FRAME / 2 - y * radius + dy)
            plane = outline.coverage(shape, center=center, radius=radius, side=_FRAME)
            sharp = Image.fromarray((plane * 255).astype(np.uint8))
            for blur in _BLURS:
                row = np.asarray(sharp.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float64).ravel()
                names.append(shape)
                rows.append(row / np.linalg.norm(row))
    return names, np.stack(rows)


@cache
def _unit_area(shape: Shape) -> float:
    """Area of the shape with radius 1."""
    return float(outline.coverage(shape, center=(100, 100), radius=50, side=200).sum()) / 50**2


@cache
def _centroid(shape: Shape) -> tuple[float, float]:
    """Where the centroid (x, y) lies from the center, for radius 1."""
    plane = outline.coverage(shape, center=(100, 100), radius=50, side=200)
    rows, columns = np.mgrid[0:200, 0:200] + 0.5
    area = plane.sum()
    return float((columns * plane).sum() / area - 100) / 50, float((rows * plane).sum() / area - 100) / 50
