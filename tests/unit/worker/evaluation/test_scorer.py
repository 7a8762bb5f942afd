import numpy as np
from PIL import Image

from tiny.world import RGB, Caption, Color, Shape, Size, draw
from worker.evaluation.scorer import RuleScorer, is_tiny

RULE = RuleScorer()


def test_rules_judge_sentences_of_the_tiny_world_only() -> None:
    assert is_tiny("a large red star on a blue background") and RULE.can_judge("a star")
    assert not is_tiny("a photo of a cat") and not RULE.can_judge("a photo of a cat")


def test_a_picture_has_the_share_of_attributes_that_it_shows() -> None:
    drawn = draw(Caption(Shape.STAR, Color.RED, Size.LARGE, Color.BLUE), np.random.default_rng(1))
    captions = {
        "a large red star on a blue background": 1.0,
        "a large red star on a green background": 0.75,
        "a small red heart on a blue background": 0.5,
        "a star": 1.0,
        "a green star": 0.5,
        "a heart": 0.0,
    }
    assert RULE.score([drawn] * len(captions), list(captions)) == list(captions.values())


def test_an_empty_picture_shows_nothing() -> None:
    empty = Image.new("RGB", (64, 64), RGB[Color.BLUE])
    assert RULE.score([empty], ["a large red star on a blue background"]) == [0.25]
