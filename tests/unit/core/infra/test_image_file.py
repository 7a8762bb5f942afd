"""Pictures from outside."""

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.domain.errors import InvalidInput
from core.infra.decoder_pool import DecoderLimit, DecoderPool
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


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_turned_photograph_stands_upright_and_says_nothing_of_its_camera(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    notes = PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", "a secret")
    options: dict[str, Any] = {"PNG": {"pnginfo": notes}, "WEBP": {"lossless": True, "xmp": b"a secret"}}
    more = options.get(form, {"xmp": b"a secret"})
    sent = encode(NOISE, form, exif=exif, icc_profile=b"a profile", **more)
    assert all(each in sent for each in (b"a camera", b"a secret"))
    checked = check(sent)
    assert (checked.width, checked.height) == (24, 40)
    image = decode(checked)
    assert not image.getexif()
    assert not image.info
    assert not any(each in checked.png for each in (b"a camera", b"a profile", b"a secret"))
    if form != "JPEG":
        assert image.tobytes() == NOISE.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_text_in_a_png_is_gone() -> None:
    notes = PngInfo()
    notes.add_text("parameters", "secret")
    assert b"secret" not in check(encode(NOISE, pnginfo=notes)).png


def test_a_cameras_picture_with_its_preview_is_one_picture() -> None:
    content = encode(NOISE, "MPO", save_all=True, append_images=[NOISE.resize((8, 8))])
    assert (check(content).width, check(content).height) == NOISE.size


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_pixels_is_read(mode: str) -> None:
    plain = NOISE.convert("L").convert("I").point(lambda value: value * 256) if mode == "I;16" else NOISE
    sent = plain.convert(mode)
    expected = NOISE.convert("L").convert("RGB") if mode == "I;16" else sent.convert("RGB")
    assert decode(check(encode(sent))).tobytes() == expected.tobytes()


def test_transparency_becomes_white() -> None:
    assert decode(check(encode(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_become_eight() -> None:
    deep = Image.new("I;16", (8, 8), 0x8000)
    assert decode(check(encode(deep))).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (3, 60_000)])
def test_a_thread_of_a_picture_is_made_smaller_too(size: tuple[int, int]) -> None:
    checked = check(encode(Image.new("RGB", size)), max_kept_pixels=5000)
    assert 1 <= checked.width * checked.height <= 5000


def test_a_large_picture_is_made_smaller_in_proportion() -> None:
    checked = check(encode(NOISE.resize((2000, 1000)), "JPEG"), max_kept_pixels=500_000)
    assert checked.width * checked.height <= 500_000
    assert checked.width / checked.height == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO", "JPEG2000", "PPM", "TGA", "PCX", "ICNS", "PDF", "EPS"])
def test_other_formats_are_refused(form: str) -> None:
    with pytest.raises(InvalidInput, match="PNG, JPEG or WebP"):
        check(encode(NOISE, form))


DISGUISED = {
    "nothing": b"",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "an HTML page": b"<!doctype html><script>alert(1)</script>",
    "a PDF": b"%PDF-1.4",
    "a zip": b"PK\x03\x04" + bytes(100),
    "an archive of a GIF": gzip.compress(encode(NOISE, "GIF")),
    "a pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.",
    "an ELF": b"\x7fELF" + bytes(100),
    "a signature of PNG only": b"\x89PNG\r\n\x1a\n",
    "a signature of PNG before a JPEG": b"\x89PNG\r\n\x1a\n" + encode(NOISE, "JPEG"),
    "a RIFF that is a sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(100),
    "a RIFF of nothing": b"RIFF\0\0\0\0WEBP",
    "a WebP of nothing": b"RIFF\x0c\0\0\0WEBPVP8L\0\0\0\0",
}


@pytest.mark.parametrize("what", DISGUISED)
def test_what_is_no_picture_is_refused(what: str) -> None:
    with pytest.raises(InvalidInput, match=r"PNG, JPEG or WebP|broken"):
        check(DISGUISED[what])


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    frames = [NOISE.rotate(turn) for turn in range(1, 4)]
    with pytest.raises(InvalidInput, match="animation"):
        check(encode(NOISE, form, save_all=True, append_images=frames))


FRAMES = 10_000


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(*chunks: bytes, width: int = 8, height: int = 8) -> bytes:
    """A PNG whose other chunks lie before its pixels."""
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(min(height, 100) * (1 + 3 * min(width, 100)))))
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def long_apng() -> bytes:
    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 8, 8, 0, 0, 1, 10, 0, 0))

    first = png_of(chunk(b"acTL", struct.pack(">II", FRAMES, 0)), control(0))
    pixels = zlib.compress(bytes(8 * 25))
    rest = [control(2 * n - 1) + chunk(b"fdAT", struct.pack(">I", 2 * n) + pixels) for n in range(1, FRAMES)]
    return first[:-12] + b"".join(rest) + first[-12:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(width: int, height: int) -> bytes:
    return b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def long_webp() -> bytes:
    still = encode(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + (7).to_bytes(3, "little") * 2 + (10).to_bytes(3, "little") + b"\0" + still
    frames = [(b"ANMF", frame + b"\0" * (len(frame) % 2))] * FRAMES
    return riff((b"VP8X", vp8x(8, 8)), (b"ANIM", bytes(6)), *frames)


@pytest.mark.parametrize("build", [long_apng, long_webp])
def test_ten_thousand_frames_are_refused(build: Callable[[], bytes]) -> None:
    with pytest.raises(InvalidInput, match="animation"):
        check(build())


def test_ten_thousand_frames_of_another_format_are_not_even_counted() -> None:
    still = encode(Image.new("L", (8, 8)), "GIF")
    frame = still[still.index(b",") : -1]
    with pytest.raises(InvalidInput, match="PNG, JPEG or WebP"):
        check(still[:-1] + frame * (FRAMES - 1) + b";")


ZEROS = zlib.compress(bytes(2**28), 9)
BOMBS = {
    "iCCP": b"profile\0\0" + ZEROS,
    "zTXt": b"Comment\0\0" + ZEROS,
    "iTXt": b"Comment\0\1\0\0\0" + ZEROS,
    "IDAT": ZEROS,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_a_chunk_is_not_unpacked(name: str) -> None:
    """256 MB of zeros in 256 kB, where only 300 MB are allowed."""
    pool = DecoderPool(DecoderLimit(memory_bytes=300 * 2**20))
    try:
        with pytest.raises(InvalidInput, match="broken") if name != "IDAT" else nullcontext():
            content = png_of(chunk(name.encode(), BOMBS[name]))
            check_image(io.BytesIO(content), max_kept_pixels=100, pool=pool)
        assert len(pool.idle_pids) == 1, "it was refused, and broke nothing"
    finally:
        pool.close()


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 12_000, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(InvalidInput, match="at most"):
        check(png_of(width=side, height=side))


def jpeg_of(width: int, height: int) -> bytes:
    content = bytearray(encode(NOISE, "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        jpeg_of(65_535, 65_535),
        riff((b"VP8X", vp8x(2**24, 256))),
        riff((b"VP8X", vp8x(16_383, 16_383)), (b"VP8L", b"\x2f" + (2**28 - 1).to_bytes(4, "little") + bytes(8))),
        riff((b"VP8L", b"\x2f" + (2**28 - 1).to_bytes(4, "little") + bytes(9))),
        riff((b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + b"\xff\x3f" * 2 + bytes(10))),
    ],
)
def test_so_it_is_in_the_other_formats(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="at most"):
        check(content)


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
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            decode(check(bytes(damaged)))
        except InvalidInput:
            continue
