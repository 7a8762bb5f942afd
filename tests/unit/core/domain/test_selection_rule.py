"""Each rule that leaves feedback out."""

from typing import Any

import pytest

from core.domain.feedback import FeedbackKind
from core.domain.opinion import Judgement
from core.domain.preference import PreferenceKind
from core.domain.selection_rule import bursts, comments, contradictions, duplicates, excess, foreign, unavailable
from tests.opinion_bench import at, choice, judgement, opinion, picture, rating, thumb


def test_words_and_what_is_gone_or_foreign_are_left_out() -> None:
    said = [
        opinion(FeedbackKind.COMMENT, 1),
        thumb(1, is_available=False),
        thumb(1, is_foreign=True),
        thumb(1),
    ]
    assert [list(rule(said)) for rule in (comments, unavailable, foreign)] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("said", "left_out"),
    [
        ([thumb(1), thumb(2, False), choice(2, 1)], [0, 1, 2]),
        ([thumb(1), thumb(2, False), choice(1, 2)], []),
        ([rating(1, 5), rating(2, 3), choice(2, 1)], [0, 1, 2]),
        ([rating(1, 4), rating(2, 3), choice(2, 1)], []),
        ([thumb(1), choice(2, 1)], []),
        ([thumb(1), thumb(2, False), choice(2, 1, user="bob")], []),
        ([thumb(1), thumb(1, False), thumb(2)], [0, 1]),
        ([thumb(1), thumb(1)], []),
        ([choice(1, 2), choice(2, 1)], [0, 1]),
        ([choice(1, 2), choice(2, 3), choice(3, 1), choice(1, 4), choice(5, 1)], [0, 1, 2]),
        ([choice(1, 2), choice(2, 3), choice(1, 3), choice(3, 4)], []),
        ([choice(1, 2), choice(2, 1, user="bob")], []),
    ],
)
def test_who_says_the_opposite_too_says_nothing(said: list[Any], left_out: list[int]) -> None:
    assert sorted(contradictions(said)) == left_out


def test_a_long_chain_of_choices_is_no_circle() -> None:
    chain = [choice(number, number + 1) for number in range(3000)]
    assert contradictions(chain) == {}
    assert len(contradictions([*chain, choice(3000, 0)])) == 3001


DARK, LIGHT = "0" * 192, "f" * 192
ALMOST_DARK = "1" + "0" * 191


def seen(perceptual_hash: str | None, name: object, **changes: Any) -> Judgement:
    return judgement(name, picture=picture(name, perceptual_hash=perceptual_hash), **changes)


@pytest.mark.parametrize(
    ("judgements", "left_out"),
    [
        ([seen(DARK, 1), seen(ALMOST_DARK, 2), seen(DARK, 3)], [1, 2]),
        ([seen(DARK, 1), seen(LIGHT, 2)], []),
        ([seen(None, 1), seen(None, 1), seen(None, 2)], [1]),
        ([seen(None, 1), seen(DARK, 2)], []),
        ([seen(DARK, 1), seen(DARK, 2, user_ref="bob")], []),
        ([seen(DARK, 1), seen(DARK, 2, prompt="a heart")], []),
        ([seen(DARK, 1), seen(DARK, 2, kind=PreferenceKind.DISLIKED)], []),
    ],
)
def test_the_same_verdict_on_what_looks_the_same_counts_once(judgements: list[Judgement], left_out: list[int]) -> None:
    assert list(duplicates(judgements, distance=0.02)) == left_out


def test_a_choice_is_the_same_where_both_its_pictures_are() -> None:
    def pair(chosen: str, rejected: str) -> Judgement:
        sides = picture(chosen, perceptual_hash=chosen), picture(rejected, perceptual_hash=rejected)
        return judgement(0, PreferenceKind.PAIR, picture=sides[0], rejected=sides[1])

    middle = "8" * 192
    found = [pair(DARK, LIGHT), pair(DARK, middle), pair(LIGHT, DARK), pair(ALMOST_DARK, LIGHT)]
    assert list(duplicates(found, distance=0.02)) == [3]


def test_a_burst_is_left_out_from_its_first_to_its_last() -> None:
    times = [0, 1, 1.1, 1.2, 1.3, 5]
    found = [judgement(number, created_at=at(minutes)) for number, minutes in enumerate(times)]
    assert sorted(bursts(found, count=4, seconds=60)) == [1, 2, 3, 4]
    assert bursts(found, count=6, seconds=60) == {}
    assert sorted(bursts(found, count=4, seconds=20)) == [1, 2, 3, 4]
    assert "4 are a burst" in bursts(found, count=4, seconds=20)[1]


def test_two_users_at_once_are_no_burst_and_a_pair_of_ratings_is_two_opinions() -> None:
    crowd = [judgement(number, created_at=at(0), user_ref=str(number % 2)) for number in range(6)]
    assert bursts(crowd, count=4, seconds=60) == {}
    pairs = [judgement(number, created_at=at(0), sources=crowd[0].sources * 2) for number in range(2)]
    assert sorted(bursts(pairs, count=4, seconds=60)) == [0, 1]


@pytest.mark.parametrize(
    ("per_user", "share", "left_out"),
    [
        (20, 1.0, []),
        (3, 1.0, [0, 1]),  # of five; the newest stay
        (20, 0.5, [0, 1]),  # half of seven is three
        (20, 0.1, [0, 1, 2, 3, 5]),  # one in any case
    ],
)
def test_nobody_says_more_than_enough(per_user: int, share: float, left_out: list[int]) -> None:
    found = [judgement(number) for number in range(5)] + [judgement(number, user_ref="bob") for number in (5, 6)]
    assert sorted(excess(found, per_user=per_user, share=share)) == left_out
