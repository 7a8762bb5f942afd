"""Pictures from outside: checked by their content, decoded under limits, written anew as plain PNG."""

import hashlib
import io
import struct
import threading
import zlib
from dataclasses import dataclass, field
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from core.domain.errors import InvalidInput

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 40_000_000
"""Of a picture as it arrives: a large camera's. It bounds the memory of one decode to about 300 MB."""

_DECODES = threading.BoundedSemaphore(2)
# What Pillow's decoders raise on files that are cut short or made to break them.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    zlib.error,
)


@dataclass(frozen=True)
class CheckedImage:
    """A picture as RGB PNG without metadata. Sizes in pixels; `sha256` is of `png`."""

    png: bytes = field(repr=False)
    sha256: str
    width: int
    height: int


def check_image(file: IO[bytes], *, max_kept_pixels: int) -> CheckedImage:
    """Read a PNG, JPEG or WebP and write it anew: upright, one frame, RGB, no metadata.

    A picture of more than `max_kept_pixels` is made smaller, its proportions kept; transparency becomes white.

    Raises:
        InvalidInput: no such picture, too large, more than one frame, or broken; the field is `image`.
    """
    with _DECODES:
        try:
            return _read(file, max_kept_pixels)
        except UnidentifiedImageError:
            raise InvalidInput.of("image", "must be a PNG, JPEG or WebP picture") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _too_large() from None
        except _BROKEN as error:
            raise InvalidInput.of("image", "is broken or cut short") from error


def _read(file: IO[bytes], max_kept_pixels: int) -> CheckedImage:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _too_large()
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a camera's JPEG with its preview
            raise InvalidInput.of("image", "must be a single picture, not an animation")
        scale = min(1.0, (max_kept_pixels / (width * height)) ** 0.5)
        size = max(1, int(width * scale)), max(1, int(height * scale))
        image.draft("RGB", size)  # lets the JPEG decoder skip what would be thrown away
        image.load()
        upright = ImageOps.exif_transpose(_as_rgb(image))
    if scale < 1:
        upright.thumbnail((max(size), max(size)), Image.Resampling.LANCZOS)
    return _write(upright)


def _too_large() -> InvalidInput:
    return InvalidInput.of("image", f"must have at most {MAX_PIXELS:,} pixels")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        deep = image.convert("I").point(lambda value: value / 256)  # 16 bits a pixel; plain conversion would clip
        return deep.convert("L").convert("RGB")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")


def _write(image: Image.Image) -> CheckedImage:
    plain = Image.new("RGB", image.size)  # a new image carries nothing of the old one's metadata
    plain.paste(image)
    buffer = io.BytesIO()
    plain.save(buffer, "PNG", compress_level=4)
    png = buffer.getvalue()
    return CheckedImage(png=png, sha256=hashlib.sha256(png).hexdigest(), width=plain.width, height=plain.height)
