"""The drawn world: deterministic, readable back, and honest about what is held out."""

import numpy as np
import pytest

from tiny.world import (
    KNOWN_SHAPES,
    NOVEL_SHAPES,
    SIDE,
    Caption,
    Color,
    Shape,
    Size,
    complete,
    draw,
    full_captions,
    is_held_out,
    parse,
)


def test_the_same_seed_draws_the_same_pixels() -> None:
    caption = Caption(Shape.STAR, color=Color.RED)
    first, second = (np.asarray(draw(caption, np.random.default_rng(3))) for _ in range(2))
    other = np.asarray(draw(caption, np.random.default_rng(4)))
    assert first.shape == (SIDE, SIDE, 3)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        (Caption(Shape.STAR), "a star"),
        (Caption(Shape.STAR, color=Color.ORANGE), "an orange star"),
        (Caption(Shape.CIRCLE, size=Size.LARGE), "a large circle"),
        (Caption(Shape.HEART, background=Color.ORANGE), "a heart on an orange background"),
        (Caption(Shape.RING, Color.RED, Size.SMALL, Color.BLUE), "a small red ring on a blue background"),
    ],
)
def test_captions_are_written_and_parsed(caption: Caption, text: str) -> None:
    assert caption.text == text
    assert parse(text) == caption


@pytest.mark.parametrize("text", ["", "star", "a red", "a mauve star", "a star on a star background", "a star, please"])
def test_other_sentences_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Not a caption"):
        parse(text)


def test_every_full_caption_parses_back() -> None:
    for caption in full_captions(tuple(Shape)):
        assert caption.is_full
        assert parse(caption.text) == caption


def test_about_a_tenth_is_held_out_and_every_attribute_is_still_trained() -> None:
    everything = list(full_captions())
    trained = [caption for caption in everything if not is_held_out(caption)]
    assert len(everything) == len(KNOWN_SHAPES) * 8 * 7 * 2
    assert 0.06 < 1 - len(trained) / len(everything) < 0.14
    assert {c.shape for c in trained} == set(KNOWN_SHAPES)
    assert {c.color for c in trained} == {c.background for c in trained} == set(Color)


def test_novel_shapes_are_drawable_but_not_part_of_the_world() -> None:
    assert not {caption.shape for caption in full_captions()} & set(NOVEL_SHAPES)
    for shape in NOVEL_SHAPES:
        picture = np.asarray(draw(Caption(shape, Color.WHITE, Size.LARGE, Color.BLACK), np.random.default_rng(0)))
        assert picture.max() > 200


def test_completion_never_hides_a_shape_in_its_background() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        full = complete(Caption(Shape.CROSS, background=Color.GREEN), rng)
        assert full.is_full
        assert full.color != full.background == Color.GREEN
