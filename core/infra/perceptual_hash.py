"""A short fingerprint of a picture that is alike for pictures that look alike."""

from PIL import Image

from core.domain.perceptual import LEVELS, SIDE


def perceptual_hash(image: Image.Image) -> str:
    """The 8x8 RGB thumbnail at 16 levels, a hexadecimal digit each: 192 of them. `core.domain.perceptual` compares."""
    thumbnail = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return "".join(f"{level * LEVELS // 256:x}" for level in thumbnail.tobytes())
