"""The world the tiny model knows: captions such as "a large red star on a blue background", and their pictures."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from PIL import Image

from tiny import outline

SIDE = 64  # pixels
HELD_OUT_SHARE = 0.10


class Shape(StrEnum):
    """What is drawn. Members of NOVEL_SHAPES can be drawn but are never trained on."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    HEART = "heart"
    CROSS = "cross"
    CRESCENT = "crescent"
    RING = "ring"


class Color(StrEnum):
    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    BLUE = "blue"
    PURPLE = "purple"
    BLACK = "black"
    WHITE = "white"


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


NOVEL_SHAPES = (Shape.CRESCENT, Shape.RING)
KNOWN_SHAPES = tuple(shape for shape in Shape if shape not in NOVEL_SHAPES)

RGB: dict[Color, tuple[int, int, int]] = {
    Color.RED: (215, 40, 40),
    Color.ORANGE: (245, 140, 25),
    Color.YELLOW: (250, 225, 60),
    Color.GREEN: (40, 160, 75),
    Color.BLUE: (45, 95, 220),
    Color.PURPLE: (145, 60, 185),
    Color.BLACK: (25, 25, 25),
    Color.WHITE: (245, 245, 245),
}
RADIUS: dict[Size, float] = {Size.SMALL: 10.0, Size.LARGE: 20.0}  # pixels, before jitter


@dataclass(frozen=True, slots=True)
class Caption:
    """What a text says. The shape is always named; any other attribute may be left out (None)."""

    shape: Shape
    color: Color | None = None
    size: Size | None = None
    background: Color | None = None

    @property
    def text(self) -> str:
        """Such as "a large red star on a blue background" or "an orange star"."""
        noun = " ".join(word for word in (self.size, self.color, self.shape) if word)
        place = f" on {_article(self.background)} {self.background} background" if self.background else ""
        return f"{_article(noun)} {noun}{place}"

    @property
    def is_full(self) -> bool:
        return None not in (self.color, self.size, self.background)


_PATTERN = re.compile(
    rf"an? (?:(?P<size>{'|'.join(Size)}) )?(?:(?P<color>{'|'.join(Color)}) )?(?P<shape>{'|'.join(Shape)})"
    rf"(?: on an? (?P<background>{'|'.join(Color)}) background)?"
)


def parse(text: str) -> Caption:
    """Read a caption back.

    Raises:
        ValueError: the text is not a sentence of this world.
    """
    found = _PATTERN.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise ValueError(f"Not a caption of the tiny world: {text!r}.")
    words = found.groupdict()
    return Caption(
        shape=Shape(words["shape"]),
        color=Color(words["color"]) if words["color"] else None,
        size=Size(words["size"]) if words["size"] else None,
        background=Color(words["background"]) if words["background"] else None,
    )


def full_captions(shapes: tuple[Shape, ...] = KNOWN_SHAPES) -> Iterator[Caption]:
    """Every full caption whose shape can be told from its background, in a fixed order."""
    for shape, color, size, background in itertools.product(shapes, Color, Size, Color):
        if color != background:
            yield Caption(shape, color, size, background)


def is_held_out(caption: Caption) -> bool:
    """Whether this full combination is never drawn for training: a hash of its text decides, one in ten."""
    digest = hashlib.sha256(caption.text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def complete(caption: Caption, rng: np.random.Generator) -> Caption:
    """Choose at random what the caption leaves open, never a shape in the color of its background."""
    color, size, background = caption.color, caption.size, caption.background
    if color is None:
        color = Color(rng.choice([c for c in Color if c != background]))
    if background is None:
        background = Color(rng.choice([c for c in Color if c != color]))
    return replace(caption, color=color, background=background, size=size or Size(rng.choice(list(Size))))


def draw(caption: Caption, rng: np.random.Generator) -> Image.Image:
    """Draw one picture, 64x64 RGB: antialiased, with a little jitter of place (±3 px), scale (±6 %) and shade (±5).

    What the caption leaves open is drawn at random. The same caption and generator state give the same pixels.
    """
    full = complete(caption, rng)
    assert full.color and full.size and full.background
    x, y = SIDE / 2 + rng.uniform(-3, 3, size=2)
    radius = RADIUS[full.size] * rng.uniform(0.94, 1.06)
    alpha = outline.coverage(full.shape, center=(x, y), radius=radius, side=SIDE)[..., None]
    ink, paper = (np.array(RGB[color]) + rng.uniform(-5, 5, size=3) for color in (full.color, full.background))
    pixels = np.rint(alpha * ink + (1 - alpha) * paper)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
