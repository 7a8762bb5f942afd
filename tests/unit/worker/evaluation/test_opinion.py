from uuid import UUID

import pytest

from core.domain.model_update import Split
from core.domain.preference import PictureRef, PreferenceKind, PreferenceRow
from worker.evaluation.opinion import Scored, agreement


def said(kind: PreferenceKind, picture: float, rejected: float | None = None) -> Scored:
    ref = PictureRef(image_id=UUID(int=0), object_key="k", sha256="0")
    row = PreferenceRow(
        feedback_id=UUID(int=0),
        kind=kind,
        prompt="a star",
        picture=ref,
        rejected=ref if rejected is not None else None,
        weight=1.0,
        split=Split.HELD_OUT,
    )
    return Scored(row, picture, rejected)


def pair(chosen: float, rejected: float) -> Scored:
    return said(PreferenceKind.PAIR, chosen, rejected)


def liked(figure: float) -> Scored:
    return said(PreferenceKind.LIKED, figure)


def disliked(figure: float) -> Scored:
    return said(PreferenceKind.DISLIKED, figure)


@pytest.mark.parametrize(
    ("scored", "value", "count"),
    [
        ([pair(2, 1), pair(0.5, -1), pair(1, 2)], 2 / 3, 3),
        ([pair(1, 1), pair(2, 1)], 0.75, 2),
        ([liked(3), disliked(1)], 1.0, 1),
        ([liked(0), disliked(0)], 0.5, 1),
        ([liked(3), liked(2), liked(0), disliked(1)], 2 / 3, 1),
        ([liked(3), liked(2), disliked(1), disliked(2.5)], 0.75, 2),
        ([pair(2, 1), liked(0), disliked(1)], 0.5, 2),
    ],
)
def test_the_share_of_opinions_that_figures_side_with(scored: list[Scored], value: float, count: int) -> None:
    found = agreement(scored, confidence=0.95)
    assert found is not None
    assert (found.value, found.count) == pytest.approx((value, count))


@pytest.mark.parametrize("scored", [[], [liked(1), liked(2)], [disliked(1)]])
def test_one_kind_of_opinion_says_nothing(scored: list[Scored]) -> None:
    assert agreement(scored, confidence=0.95) is None


def test_a_crowd_that_likes_nearly_everything_does_not_make_chance_look_good() -> None:
    blind = agreement([*(liked(0.0) for _ in range(90)), *(disliked(0.0) for _ in range(10))], confidence=0.95)
    assert blind is not None
    assert (blind.value, blind.count) == (0.5, 10)
