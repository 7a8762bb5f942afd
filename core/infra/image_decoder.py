"""The program that decodes foreign pictures: a process of its own, under limits, that knows no secret.

`decoder_pool` starts it as `python -I image_decoder.py MEMORY_BYTES SECONDS`, so it may import nothing of this project.
Each question on its standard input is a line of JSON and a picture, each answer a line of JSON and a PNG, or a line
with the problem. It ends when its input does.
"""

import io
import json
import os
import resource
import signal
import struct
import sys
import warnings
import zlib
from typing import IO

from PIL import Image, JpegImagePlugin, MpoImagePlugin, UnidentifiedImageError, WebPImagePlugin

FORMATS = ("PNG", "JPEG", "WEBP")
_ROWS = 256
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
# What Pillow's decoders raise on files that are cut short or made to break them.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, TypeError, OverflowError, zlib.error)


class _Animated(Exception):
    """The picture has more than one frame."""


def main() -> None:
    """Answer until the input ends."""
    memory_bytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    # Who stops the API stops this by closing its input: what is being decoded may be finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    _load_everything()
    _limit(memory_bytes)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    try:
        _say(target, {"ready": True})
        while question := source.readline():
            signal.setitimer(signal.ITIMER_REAL, seconds)  # it ends, even where nobody is left to kill it
            _answer(source, target, **json.loads(question))
            signal.setitimer(signal.ITIMER_REAL, 0)
    except BrokenPipeError:
        os._exit(0)


def _load_everything() -> None:
    """Make every module load that a decoder will ask for: no file can be opened later."""
    assert JpegImagePlugin
    assert MpoImagePlugin
    assert WebPImagePlugin
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    for form in FORMATS:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, form, exif=exif)
        decode(buffer, max_kept_pixels=16)


def _limit(memory_bytes: int) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,  # what is open stays open, and nothing else opens
    }
    if sys.platform == "linux":  # elsewhere it is not kept, or refused
        limits[resource.RLIMIT_AS] = memory_bytes
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (limit, limit))


def _answer(source: IO[bytes], target: IO[bytes], *, size: int, max_pixels: int, max_kept_pixels: int) -> None:
    content = source.read(size)
    if len(content) < size:  # whoever asked is gone
        return
    Image.MAX_IMAGE_PIXELS = max_pixels // 2  # Pillow refuses by a picture's header what has more than twice as many
    try:
        image, png = decode(io.BytesIO(content), max_kept_pixels=max_kept_pixels), io.BytesIO()
        image.save(png, "PNG", compress_level=4)
    except Exception as error:
        if (problem := _problem(error)) is None:
            raise
        _say(target, {"problem": problem})
    else:
        _say(target, {"size": png.tell(), "width": image.width, "height": image.height}, png.getbuffer())


def _problem(error: Exception) -> str | None:
    """The word for a picture that is not taken; None where nobody foresaw the error."""
    match error:
        case _Animated():
            return "animated"
        case UnidentifiedImageError():
            return "unknown"
        case Image.DecompressionBombError():
            return "too_large"
        case MemoryError():
            return "limits"
    return "broken" if isinstance(error, _BROKEN) else None


def _say(target: IO[bytes], line: dict[str, object], body: bytes | memoryview = b"") -> None:
    target.write(json.dumps(line).encode() + b"\n")
    target.write(body)
    target.flush()


def decode(file: IO[bytes], *, max_kept_pixels: int) -> Image.Image:
    """A picture upright, in RGB, without metadata; made smaller where it has more pixels than are kept."""
    with Image.open(file, formats=FORMATS) as image:
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a camera's JPEG with its preview
            raise _Animated
        size = _kept_size(*image.size, max_kept_pixels)
        image.draft("RGB", size)  # lets the JPEG decoder skip what would be thrown away
        image.load()
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        plain = _as_rgb(image)
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return plain if turn is None else plain.transpose(turn)


def _kept_size(width: int, height: int, max_kept_pixels: int) -> tuple[int, int]:
    scale = min(1.0, (max_kept_pixels / (width * height)) ** 0.5)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return min(size[0], max_kept_pixels), min(size[1], max_kept_pixels)


def _as_rgb(image: Image.Image) -> Image.Image:
    """A new image, which carries nothing of the old one's metadata; strip by strip, so that little is held twice."""
    plain = Image.new("RGB", image.size)
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        plain.paste(_opaque(image.crop(box)), box)
    return plain


def _opaque(strip: Image.Image) -> Image.Image:
    if strip.mode.startswith("I"):
        deep = strip.convert("I").point(lambda value: value / 256)  # 16 bits a pixel; plain conversion would clip
        return deep.convert("L").convert("RGB")
    if strip.has_transparency_data:
        pixels = strip.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return strip.convert("RGB")


if __name__ == "__main__":
    main()
