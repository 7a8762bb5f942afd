"""Pictures from outside."""

import io
import random
import struct
import warnings
from typing import Any

import pytest
from PIL import Image

from core.domain.errors import InvalidInput
from core.infra.image_file import MAX_PIXELS, CheckedImage, check_image


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def check(content: bytes, *, max_kept_pixels: int = 10**6) -> CheckedImage:
    return check_image(io.BytesIO(content), max_kept_pixels=max_kept_pixels)


def decode(checked: CheckedImage) -> Image.Image:
    image = Image.open(io.BytesIO(checked.png))
    image.load()
    return image


NOISE = Image.effect_noise((40, 24), 60).convert("RGB")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_become_png(form: str) -> None:
    checked = check(encode(NOISE, form))
    image = decode(checked)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (40, 24))
    assert (checked.width, checked.height) == (40, 24)


def test_the_pixels_of_a_png_stay_and_the_same_picture_has_the_same_digest() -> None:
    first, second = check(encode(NOISE)), check(encode(NOISE, compress_level=9))
    assert first.sha256 == second.sha256
    assert decode(first).tobytes() == NOISE.tobytes()


def test_a_turned_photograph_stands_upright_and_says_nothing_of_its_camera() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    checked = check(encode(NOISE, "JPEG", exif=exif))
    assert (checked.width, checked.height) == (24, 40)
    image = decode(checked)
    assert not image.getexif()
    assert not image.info


def test_text_in_a_png_is_gone() -> None:
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("parameters", "secret")
    assert b"secret" not in check(encode(NOISE, pnginfo=notes)).png


def test_transparency_becomes_white() -> None:
    assert decode(check(encode(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_become_eight() -> None:
    deep = Image.new("I;16", (8, 8), 0x8000)
    assert decode(check(encode(deep))).getpixel((0, 0)) == (128, 128, 128)


def test_a_large_picture_is_made_smaller_in_proportion() -> None:
    checked = check(encode(NOISE.resize((2000, 1000)), "JPEG"), max_kept_pixels=500_000)
    assert checked.width * checked.height <= 500_000
    assert checked.width / checked.height == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO"])
def test_other_formats_are_refused(form: str) -> None:
    with pytest.raises(InvalidInput, match="PNG, JPEG or WebP"):
        check(encode(NOISE, form))


@pytest.mark.parametrize("content", [b"", b"<svg/>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        check(content)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    frames = [NOISE.rotate(turn) for turn in range(1, 4)]
    with pytest.raises(InvalidInput, match="animation"):
        check(encode(NOISE, form, save_all=True, append_images=frames))


def header_of_png(width: int, height: int) -> bytes:
    import zlib

    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = struct.pack(">I", 9) + b"IDAT" + zlib.compress(b"x")
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + idat


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 12_000, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(InvalidInput, match="at most"):
        check(header_of_png(side, side))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_every_cut_is_refused_and_no_damage_breaks_anything_else(form: str) -> None:
    content = encode(Image.effect_noise((12, 8), 60).convert("RGB"), form)
    whole = check(content)
    for length in range(len(content)):
        try:
            assert check(content[:length]).sha256 == whole.sha256, "the last bytes carry no pixels"
            assert length > len(content) - 24
        except InvalidInput:
            continue
    draw = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow warns of broken EXIF
        for _ in range(500):
            damaged = bytearray(content)
            for _ in range(draw.randint(1, 4)):
                damaged[draw.randrange(len(damaged))] = draw.randrange(256)
            try:
                decode(check(bytes(damaged)))
            except InvalidInput:
                continue
