"""Who agrees with whom."""

import random

import pytest

from core.domain.agreement import Vote, agreements
from core.domain.preference import PreferenceKind
from core.domain.rater import Rater, rate, untrusted
from tests.opinion_bench import judgement, picture


def crowd(accuracies: list[float], *, items: int, seed: int = 0) -> list[Vote]:
    """Raters of known accuracy, all voting on every item."""
    draw = random.Random(seed)
    truth = [draw.random() < 0.5 for _ in range(items)]
    return [
        Vote(f"r{rater}", item, answer if draw.random() < accuracy else not answer)
        for item, answer in enumerate(truth)
        for rater, accuracy in enumerate(accuracies)
    ]


def test_accuracies_are_found_without_the_truth() -> None:
    accuracies = [0.95, 0.95, 0.9, 0.9, 0.85, 0.85, 0.8, 0.8, 0.5, 0.2]
    found = agreements(crowd(accuracies, items=400))
    for rater, accuracy in enumerate(accuracies):
        overlap, agreement = found[f"r{rater}"]
        assert overlap == 400
        assert agreement == pytest.approx(accuracy, abs=0.05)


def test_one_who_always_lies_is_found_among_two_who_agree() -> None:
    votes = [Vote(rater, item, item % 2 == (rater == "liar")) for item in range(10) for rater in ("a", "b", "liar")]
    found = agreements(votes)
    assert found["a"][1] == found["b"][1] > 0.8
    assert found["liar"][1] < 0.2


def test_a_vote_is_not_its_own_witness() -> None:
    found = agreements([Vote("a", 1, True), Vote("b", 1, False)])
    assert found["a"][1] == found["b"][1] < 0.5


def test_what_nobody_shares_says_nothing() -> None:
    assert agreements([]) == {}
    assert agreements([Vote("a", 1, True), Vote("a", 1, False), Vote("b", 2, True)]) == {}


def test_many_votes_on_one_item_are_no_overflow() -> None:
    found = agreements([Vote(f"r{number}", 1, True) for number in range(3000)] + [Vote("odd", 1, False)])
    assert found["odd"][1] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("rater", "weight"),
    [
        (Rater(0, 0.0), 0.6),
        (Rater(20, 1.0), 2 * 23.2 / 24 - 1),
        (Rater(20, 0.5), 2 * 13.2 / 24 - 1),
        (Rater(100, 0.1), 0.05),
    ],
)
def test_the_weight_of_a_rater(rater: Rater, weight: float) -> None:
    assert rater.weight == pytest.approx(weight)


def test_a_choice_is_one_item_in_either_order() -> None:
    first, second = picture(1), picture(2)
    said = [
        judgement(0, PreferenceKind.PAIR, user_ref="ann", picture=first, rejected=second),
        judgement(0, PreferenceKind.PAIR, user_ref="bob", picture=second, rejected=first),
        judgement(0, user_ref="eve", picture=first),
    ]
    raters = rate(said)
    assert raters["ann"].overlap == raters["bob"].overlap == 1
    assert raters["eve"] == Rater(0, 0.0)


def test_who_agrees_too_seldom_and_shared_enough_is_left_out() -> None:
    said = [
        judgement(number, PreferenceKind.LIKED if user != "liar" else PreferenceKind.DISLIKED, user_ref=user)
        for number in range(6)
        for user in ("ann", "bob", "liar")
    ]
    raters = rate(said)
    left_out = untrusted(said, raters, min_overlap=6, min_agreement=0.5)
    assert {said[position].user_ref for position in left_out} == {"liar"}
    assert len(left_out) == 6
    assert "of 6 shared opinions" in next(iter(left_out.values()))
    assert untrusted(said, raters, min_overlap=7, min_agreement=0.5) == {}
