"""The scorer: right on drawn pictures, right on damaged ones, and able to say no."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tiny.scorer import read, score
from tiny.world import RGB, Caption, Color, Shape, Size, draw, full_captions


def _sample(count: int) -> list[tuple[Caption, Image.Image]]:
    rng = np.random.default_rng(11)
    captions = list(full_captions(tuple(Shape)))
    chosen = [captions[i] for i in rng.permutation(len(captions))[:count].tolist()]
    return [(caption, draw(caption, rng)) for caption in chosen]


def test_reads_drawn_pictures() -> None:
    assert [caption.text for caption, image in _sample(200) if not score(image, caption).all_four] == []


def test_reads_blurred_and_noisy_pictures() -> None:
    rng = np.random.default_rng(5)
    right = 0
    for caption, image in _sample(200):
        blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)), dtype=np.float64)
        noisy = np.clip(blurred + rng.normal(0, 10, blurred.shape), 0, 255).astype(np.uint8)
        right += score(Image.fromarray(noisy), caption).all_four
    assert right >= 198


def test_reads_a_larger_picture() -> None:
    caption = Caption(Shape.HEART, Color.PURPLE, Size.SMALL, Color.YELLOW)
    image = draw(caption, np.random.default_rng(1)).resize((256, 256), Image.Resampling.BICUBIC)
    assert score(image, caption).all_four


@pytest.mark.parametrize("wrong", [{"shape": Shape.CIRCLE}, {"color": Color.RED}, {"background": Color.RED}])
def test_says_what_is_wrong(wrong: dict[str, Shape | Color]) -> None:
    drawn = Caption(Shape.STAR, Color.GREEN, Size.LARGE, Color.WHITE)
    fields = {"shape": drawn.shape, "color": drawn.color, "size": drawn.size, "background": drawn.background}
    seen = score(draw(drawn, np.random.default_rng(2)), Caption(**(fields | wrong)))  # type: ignore[arg-type]
    assert not seen.all_four
    assert [name for name in fields if not getattr(seen, name)] == list(wrong)


def test_size_is_told_apart() -> None:
    small = Caption(Shape.CROSS, Color.BLACK, Size.SMALL, Color.ORANGE)
    assert not score(draw(small, np.random.default_rng(2)), Caption(Shape.CROSS, size=Size.LARGE)).size


def test_silent_captions_accept_anything_but_the_shape() -> None:
    image = draw(Caption(Shape.SQUARE, Color.BLUE), np.random.default_rng(2))
    assert score(image, Caption(Shape.SQUARE)).all_four
    assert not score(image, Caption(Shape.TRIANGLE)).shape


def test_an_empty_picture_shows_no_shape() -> None:
    seen = read(Image.new("RGB", (64, 64), RGB[Color.BLUE]))
    assert seen.background == Color.BLUE
    assert seen.shape is None
    assert seen.size is None


def test_noise_fits_no_outline_well() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert read(Image.fromarray(noise)).fit < 0.9
