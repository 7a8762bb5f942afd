"""Changes to a picture that leave its meaning alone: flip, crop, color. Drawn first, applied later."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from core.domain.training import Augmentation

_LEAST_CROP = 0.8  # share of the side that a crop keeps
_COLOR_RANGE = 0.2  # brightness, contrast and saturation each by a factor of 1 ± this


@dataclass(frozen=True, slots=True)
class Crop:
    """A square inside the square picture: `side`, `left` and `top` as shares of its side."""

    side: float
    left: float
    top: float


@dataclass(frozen=True, slots=True)
class Color:
    """Factors around 1."""

    brightness: float
    contrast: float
    saturation: float


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one picture this time."""

    flip: bool = False
    crop: Crop | None = None
    color: Color | None = None

    @property
    def keeps_pixels(self) -> bool:
        """Whether the pixels stay as they are, mirrored at most: then their latents can be kept."""
        return self.crop is None and self.color is None


def draw_change(odds: Augmentation, rng: np.random.Generator) -> Change:
    """Decide by chance. Takes the same number of draws whatever comes of it."""
    flip, crop, color = rng.random(3) < (odds.flip, odds.crop, odds.color)
    side, left, top = rng.random(3)
    side = _LEAST_CROP + (1 - _LEAST_CROP) * side
    factors = 1 + _COLOR_RANGE * (2 * rng.random(3) - 1)
    return Change(
        flip=bool(flip),
        crop=Crop(side, (1 - side) * left, (1 - side) * top) if crop else None,
        color=Color(*factors.tolist()) if color else None,
    )


def apply_change(image: Image.Image, change: Change, *, resolution: int) -> Image.Image:
    """The picture as the model will see it: RGB, `resolution` pixels a side, cut square about its middle."""
    image = image.convert("RGB")
    whole = min(image.size)
    left, top = (image.width - whole) / 2, (image.height - whole) / 2
    crop = change.crop or Crop(1.0, 0.0, 0.0)
    left, top, side = left + crop.left * whole, top + crop.top * whole, crop.side * whole
    box = (left, top, left + side, top + side)
    image = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)
    if change.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if change.color is not None:
        image = ImageEnhance.Brightness(image).enhance(change.color.brightness)
        image = ImageEnhance.Contrast(image).enhance(change.color.contrast)
        image = ImageEnhance.Color(image).enhance(change.color.saturation)
    return image
