import numpy as np
import pytest

from cli.crowd import open_caption
from tiny.taste import TASTES, Taste
from tiny.world import parse


@pytest.mark.parametrize("taste", TASTES.values(), ids=TASTES)
def test_what_a_user_asks_for_leaves_room_for_the_taste(taste: Taste) -> None:
    rng = np.random.default_rng(0)
    captions = [open_caption(taste, rng) for _ in range(64)]
    assert all(taste.is_open(caption) and parse(caption.text) == caption for caption in captions)
    assert len(set(captions)) > 16
