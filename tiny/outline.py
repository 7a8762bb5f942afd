"""The outlines of the shapes, and how much of each pixel they cover."""

import itertools
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

_OVERSAMPLING = 4
Plane = np.ndarray[tuple[int, ...], np.dtype[Any]]
Polygon = list[tuple[float, float]]
INK, HOLE = 255, 0


def coverage(name: str, *, center: tuple[float, float], radius: float, side: int) -> Plane:
    """How much of each pixel the shape covers: (side, side), 0 to 1. Center (x, y) and radius in pixels."""
    canvas = Image.new("L", (side * _OVERSAMPLING, side * _OVERSAMPLING), HOLE)
    pen = ImageDraw.Draw(canvas)
    for polygon, value in OUTLINES[name]:
        points = (np.array(polygon) * radius + center) * _OVERSAMPLING - 0.5
        pen.polygon([(x, y) for x, y in points.tolist()], fill=value)
    blocks = np.asarray(canvas, dtype=np.float64).reshape(side, _OVERSAMPLING, side, _OVERSAMPLING)
    return blocks.mean(axis=(1, 3)) / INK


def _arc(radius: float, *, shift: float = 0.0) -> Polygon:
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False).tolist()
    return [(shift + radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _spikes(count: int, *, outer: float, inner: float) -> Polygon:
    turns = [(-0.5 + i / count) * math.pi for i in range(2 * count)]
    return [(r * math.cos(a), r * math.sin(a)) for a, r in zip(turns, itertools.cycle((outer, inner)), strict=False)]


def _cross(*, arm: float, half_width: float) -> Polygon:
    a, w = arm, half_width
    return [(-w, -a), (w, -a), (w, -w), (a, -w), (a, w), (w, w), (w, a), (-w, a), (-w, w), (-a, w), (-a, -w), (-w, -w)]


def _heart() -> Polygon:
    """16 sin³t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t (mathworld.wolfram.com/HeartCurve.html)."""
    polygon = []
    for t in np.linspace(0, 2 * math.pi, 64, endpoint=False).tolist():
        height = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        polygon.append((16 * math.sin(t) ** 3 / 15.5, -(height + 2.5) / 15.5))
    return polygon


# In units of the radius, y pointing down. Triangle: the inner points lie on its edges.
OUTLINES: dict[str, list[tuple[Polygon, int]]] = {
    "circle": [(_arc(1.0), INK)],
    "square": [([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)], INK)],
    "triangle": [(_spikes(3, outer=1.2, inner=0.6), INK)],
    "star": [(_spikes(5, outer=1.2, inner=0.5), INK)],
    "heart": [(_heart(), INK)],
    "cross": [(_cross(arm=1.05, half_width=0.36), INK)],
    "crescent": [(_arc(1.1), INK), (_arc(0.95, shift=0.55), HOLE)],
    "ring": [(_arc(1.1), INK), (_arc(0.6), HOLE)],
}
