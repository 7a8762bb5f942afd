"""Stars as pairs, likes, dislikes, or nothing."""

import pytest

from core.domain.opinion import Opinion
from core.domain.preference import PreferenceKind
from core.domain.rating import judge, score
from tests.opinion_bench import choice, rating, thumb

PAIR, LIKED, DISLIKED = PreferenceKind.PAIR, PreferenceKind.LIKED, PreferenceKind.DISLIKED


def stars(*ratings: int, prompts: str = "") -> list[Opinion]:
    """Ratings of one user, each of a prompt of its own unless `prompts` names them by letter."""
    names = prompts or "".join(chr(ord("a") + number) for number in range(len(ratings)))
    return [rating(number, each, prompt=names[number]) for number, each in enumerate(ratings)]


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ([5], [2.0]),
        ([3], [0.0]),
        ([5, 5], [0.0, 0.0]),
        ([5, 4], [0.5, -0.5]),  # the spread is half a star, and taken for one
        ([5, 1], [1.0, -1.0]),
        ([5, 5, 5, 1], [0.5774, 0.5774, 0.5774, -1.7321]),
    ],
)
def test_a_score_is_the_distance_from_the_users_own_middle(ratings: list[int], expected: list[float]) -> None:
    assert score(ratings) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("said", "kinds", "neutral"),
    [
        (stars(5), [LIKED], []),
        (stars(4), [LIKED], []),
        (stars(3), [], [0]),
        (stars(2), [DISLIKED], []),
        (stars(5, 4), [], [0, 1]),
        (stars(5, 5, 5), [], [0, 1, 2]),
        (stars(5, 1), [LIKED, DISLIKED], []),
        (stars(5, 1, prompts="aa"), [PAIR], []),
        (stars(5, 3, 1, prompts="aaa"), [PAIR], [1]),
        (stars(5, 4, 2, 1, prompts="aaaa"), [PAIR, PAIR], []),
        (stars(5, 5, 1, prompts="aab"), [LIKED, LIKED, DISLIKED], []),
    ],
)
def test_what_ratings_say(said: list[Opinion], kinds: list[PreferenceKind], neutral: list[int]) -> None:
    judged, left_out = judge(said)
    assert [each.kind for each in judged] == kinds
    assert sorted(left_out) == neutral


def test_a_pair_names_both_ratings_and_is_as_strong_as_they_are_apart() -> None:
    said = stars(2, 5, 4, 1, prompts="aaaa")
    judged, _ = judge(said)
    assert [each.sources for each in judged] == [
        (said[1].feedback_id, said[3].feedback_id),
        (said[2].feedback_id, said[0].feedback_id),
    ]
    assert judged[0].picture == said[1].picture
    assert judged[0].rejected == said[3].picture
    assert judged[0].created_at == said[3].created_at
    assert [each.strength for each in judged] == pytest.approx([1.0, 2 / 2.5**0.5 / 2])


def test_two_users_ratings_are_not_compared() -> None:
    judged, _ = judge([rating(1, 5, user="ann"), rating(2, 1, user="bob")])
    assert [(each.kind, each.strength) for each in judged] == [(LIKED, 1.0), (DISLIKED, 1.0)]


def test_thumbs_and_choices_are_taken_as_they_are() -> None:
    judged, neutral = judge([thumb(1), thumb(2, False), choice(3, 4)])
    assert [each.kind for each in judged] == [LIKED, DISLIKED, PAIR]
    assert {each.strength for each in judged} == {1.0}
    assert neutral == {}
