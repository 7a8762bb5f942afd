"""Tastes of simulated users: what they like better in a picture where its caption leaves it open."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tiny.scorer import locate, read
from tiny.world import KNOWN_SHAPES, SIDE, Caption, Color, Size

WARM = (Color.RED, Color.ORANGE, Color.YELLOW)
COOL = (Color.BLUE, Color.GREEN, Color.PURPLE)
_NAMED_SHARE = 1 / 3
_LEAST_DIFFERENCE = 0.01  # of the width: nearer than a pixel nobody has an opinion


@dataclass(frozen=True, slots=True)
class Taste:
    """What somebody likes. `attribute` is the word of a caption that would settle it, None where no word does.

    `degree` says how much a picture is to this taste, 0 to 1: either or, except for the place.
    """

    name: str
    attribute: str | None
    degree: Callable[[Image.Image], float]

    def is_open(self, caption: Caption) -> bool:
        """Whether the caption leaves room for this taste."""
        return self.attribute is None or getattr(caption, self.attribute) is None

    def compare(self, one: Image.Image, other: Image.Image) -> int:
        """1 where the first picture is better, -1 where the second is, 0 where neither is."""
        difference = self.degree(one) - self.degree(other)
        return 0 if abs(difference) < _LEAST_DIFFERENCE else int(np.sign(difference))


TASTES = {
    taste.name: taste
    for taste in (
        Taste("warm", "color", lambda image: float(read(image).color in WARM)),
        Taste("large", "size", lambda image: float(read(image).size is Size.LARGE)),
        Taste("cool_background", "background", lambda image: float(read(image).background in COOL)),
        Taste("left", None, lambda image: 1 - locate(image)[0] / SIDE),
    )
}
"""Warm colors, large shapes, cool backgrounds, and shapes left of the middle, of which no caption speaks."""


def draw_caption(rng: np.random.Generator) -> Caption:
    """What a user might ask for: a shape, and now and then its color, its size, its background."""
    shape = KNOWN_SHAPES[int(rng.integers(len(KNOWN_SHAPES)))]
    ink, paper = (Color(color) for color in rng.permutation(list(Color))[:2])
    size = list(Size)[int(rng.integers(len(Size)))]
    color, size_named, background = (rng.random(3) < _NAMED_SHARE).tolist()
    return Caption(shape, ink if color else None, size if size_named else None, paper if background else None)
