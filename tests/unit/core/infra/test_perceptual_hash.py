"""Pictures that look alike are near each other; another color is not."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from core.domain.perceptual import distance
from core.domain.policy import SelectionPolicy
from core.infra.perceptual_hash import perceptual_hash
from tiny.world import Caption, Color, Shape, Size, draw

NEAR = SelectionPolicy().duplicate_distance


def star(color: Color, *, seed: int = 5) -> Image.Image:
    return draw(Caption(Shape.STAR, color, Size.SMALL, Color.BLUE), np.random.default_rng(seed))


def test_a_hash_is_a_digit_for_each_channel_of_the_thumbnail() -> None:
    assert perceptual_hash(Image.new("RGB", (20, 30), (255, 0, 16))) == "f01" * 64
    assert perceptual_hash(Image.new("L", (8, 8), 128)) == "8" * 192


def test_the_same_picture_written_anew_is_near() -> None:
    file = io.BytesIO()
    star(Color.RED).save(file, "JPEG", quality=95)
    assert distance(perceptual_hash(star(Color.RED)), perceptual_hash(Image.open(file))) <= NEAR


def test_small_stars_of_every_two_colors_are_far() -> None:
    hashes = [perceptual_hash(star(color)) for color in Color if color is not Color.BLUE]
    assert min(distance(one, other) for one, other in itertools.combinations(hashes, 2)) > NEAR


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_every_mode_has_a_hash(mode: str) -> None:
    assert len(perceptual_hash(Image.new(mode, (64, 64)))) == 192
