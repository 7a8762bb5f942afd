"""From opinions to rows: every rule by its name, the weights, the split, and the same again from the same."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.domain.feedback import FeedbackKind
from core.domain.model_update import Split
from core.domain.opinion import Opinion, Rule
from core.domain.policy import SelectionPolicy
from core.domain.preference import PreferenceKind
from core.domain.rater import Rater
from core.domain.selection import Selection, select, split_of, weigh
from tests.opinion_bench import at, choice, judgement, opinion, picture, rating, thumb

OPEN = SelectionPolicy(held_out_share=0.0, max_per_user=1000, max_user_share=1.0, burst_count=1000)


def rules(selection: Selection) -> dict[Any, Rule]:
    return {each.feedback_id: each.rule for each in selection.exclusions}


def test_every_piece_of_feedback_is_a_row_or_has_its_rule() -> None:
    said = {
        Rule.COMMENT: opinion(FeedbackKind.COMMENT, 1),
        Rule.UNAVAILABLE: thumb(2, is_available=False),
        Rule.FOREIGN_MODEL: thumb(3, is_foreign=True),
        Rule.CONTRADICTION: thumb(4, user="both"),
        Rule.NEUTRAL: rating(5, 3, user="single"),
        Rule.DUPLICATE: thumb(6, created_at=at(1000)),
    }
    others = [thumb(4, False, user="both"), thumb(6, created_at=at(999)), thumb(7), choice(8, 9)]
    selection = select([*said.values(), *others], OPEN)
    expected = {each.feedback_id: rule for rule, each in said.items()}
    expected[others[0].feedback_id] = Rule.CONTRADICTION
    assert rules(selection) == expected
    assert {source for sources in selection.sources for source in sources} == {each.feedback_id for each in others[1:]}
    assert (selection.pairs, selection.likes, selection.dislikes, selection.raters) == (1, 2, 0, 1)
    assert all(each.detail for each in selection.exclusions)


def test_bursts_raters_and_excess() -> None:
    burst = [thumb(f"burst {number}", user="bot", created_at=at(number / 600)) for number in range(10)]
    crowd = [thumb(number, user != "liar", user=user) for number in range(6) for user in ("ann", "bob", "liar")]
    many = [thumb(f"many {number}", user="eager") for number in range(9)]
    policy = OPEN.model_copy(update={"burst_count": 10, "burst_seconds": 60.0, "max_per_user": 6})
    selection = select([*burst, *crowd, *many], policy)
    assert Counter(rules(selection).values()) == {Rule.BURST: 10, Rule.RATER: 6, Rule.CAP: 3}
    assert [rules(selection).get(each.feedback_id) for each in many] == [Rule.CAP] * 3 + [None] * 6


def test_how_often_raters_disagree_is_how_many_choices_are_believed_to_be_mistaken() -> None:
    users = ("ann", "bob", "cat")
    agreed = [choice(f"{n} a", f"{n} b", user=user) for n in range(10) for user in users]
    crossed = [choice(f"{n} d", f"{n} c", user="cat") for n in range(5)]
    crossed += [choice(f"{n} c", f"{n} d", user=user) for n in range(5) for user in ("ann", "bob")]
    assert select(agreed, OPEN).flip_rate < 0.1
    assert 0.1 < select(agreed + crossed, OPEN).flip_rate < 0.3
    assert select(agreed[:9] + crossed[:3], OPEN).flip_rate == 0.0  # too few to tell


def test_nothing_gives_nothing() -> None:
    selection = select([], SelectionPolicy())
    assert (selection.rows, selection.exclusions, selection.raters) == ((), (), 0)
    assert len(selection.manifest.digest) == 64


def test_weights_are_one_on_average_and_smaller_for_who_says_much() -> None:
    said = [judgement(number, user_ref="much") for number in range(4)] + [judgement(9, user_ref="little")]
    weights = weigh(said, {"much": Rater(0, 0.0), "little": Rater(0, 0.0)})
    assert sum(weights) / 5 == pytest.approx(1.0, abs=1e-5)
    assert weights[4] / weights[0] == pytest.approx(2.0, abs=1e-5)
    strong, weak = weigh([judgement(1), judgement(2, strength=0.5)], {"ann": Rater(0, 0.0)})
    assert strong / weak == pytest.approx(2.0, abs=1e-5)
    trusted, doubted = weigh(
        [judgement(1, user_ref="a"), judgement(2, user_ref="b")], {"a": Rater(20, 1.0), "b": Rater(20, 0.6)}
    )
    assert trusted > 2 * doubted
    assert weights == [round(weight, 6) for weight in weights]


def test_the_held_out_are_a_share_of_users_and_of_prompts_whatever_else_is_there() -> None:
    splits = [split_of(user_ref=f"user {number}", prompt="a star", share=0.1) for number in range(5000)]
    assert splits.count(Split.HELD_OUT) / 5000 == pytest.approx(0.1, abs=0.02)
    splits = [split_of(user_ref="ann", prompt=f"prompt {number}", share=0.1) for number in range(5000)]
    assert splits.count(Split.HELD_OUT) / 5000 == pytest.approx(0.1, abs=0.02)
    assert split_of(user_ref="ann", prompt="a star", share=0.0) is Split.TRAIN
    assert split_of(user_ref="ann", prompt="a star", share=1.0) is Split.HELD_OUT
    assert split_of(user_ref="a\nb", prompt="c", share=0.5) is split_of(user_ref="a\nb", prompt="c", share=0.5)


def said_by(users: int, number: int, seed: int) -> list[Opinion]:
    """Random opinions of every kind of a few users on a few pictures."""
    draw = random.Random(seed)
    hashes = ["".join(draw.choice("0123456789abcdef") for _ in range(192)) for _ in range(12)]
    pictures = [picture(index, perceptual_hash=hashes[index]) for index in range(12)]
    found = []
    for index in range(number):
        first, second = draw.sample(pictures, 2)
        prompt, user = f"prompt {hash_of(first.sha256) % 3}", f"user {draw.randrange(users)}"
        kind = draw.choice(list(FeedbackKind))
        found.append(
            opinion(
                kind,
                0,
                user=user,
                prompt=prompt,
                picture=first,
                created_at=at(index * draw.choice([0.001, 1])),
                rejected=second if kind is FeedbackKind.CHOICE else None,
                liked=draw.random() < 0.5 if kind is FeedbackKind.THUMB else None,
                rating=draw.randint(1, 5) if kind is FeedbackKind.RATING else None,
            )
        )
    return found


def hash_of(digest: str) -> int:
    return int(digest[:8], 16)


POLICY = SelectionPolicy(held_out_share=0.3, max_per_user=5, burst_count=4, burst_seconds=1.0, min_overlap=2)


@settings(deadline=None, max_examples=50)
@given(some.integers(0, 2**20), some.integers(1, 6), some.integers(0, 60), some.randoms(use_true_random=False))
def test_the_same_opinions_elsewhere_and_in_another_order_are_the_same_rows(
    seed: int, users: int, number: int, draw: random.Random
) -> None:
    said = said_by(users, number, seed)
    elsewhere = [replace(each, feedback_id=uuid4(), picture=replace(each.picture, image_id=uuid4())) for each in said]
    draw.shuffle(elsewhere)
    here, there = select(said, POLICY), select(elsewhere, POLICY)
    assert here.manifest.digest == there.manifest.digest
    assert Counter(each.rule for each in here.exclusions) == Counter(each.rule for each in there.exclusions)


@settings(deadline=None, max_examples=50)
@given(some.integers(0, 2**20), some.integers(1, 6), some.integers(0, 60))
def test_all_feedback_is_accounted_for_once(seed: int, users: int, number: int) -> None:
    said = said_by(users, number, seed)
    selection = select(said, POLICY)
    sources = [source for each in selection.sources for source in each]
    excluded = [each.feedback_id for each in selection.exclusions]
    assert sorted(sources + excluded) == sorted(each.feedback_id for each in said)
    assert len(selection.rows) == len(selection.sources)
    for row, own in zip(selection.rows, selection.sources, strict=True):
        assert row.feedback_id == own[0]
        assert (row.rejected is None) == (row.kind is not PreferenceKind.PAIR)
    if selection.rows:
        assert sum(row.weight for row in selection.rows) / len(selection.rows) == pytest.approx(1, abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(some.integers(0, 2**20), some.integers(2, 6), some.integers(0, 60))
def test_who_is_forgotten_leaves_no_trace(seed: int, users: int, number: int) -> None:
    """The split of the others stays, and their rows are those of a world without the forgotten one."""
    said = said_by(users, number, seed)
    without = [each for each in said if each.user_ref != "user 0"]
    everyone, rest = select(said, POLICY), select(without, POLICY)
    split = {row.feedback_id: row.split for row in everyone.rows}
    assert all(split.get(row.feedback_id, row.split) is row.split for row in rest.rows)
    never = [replace(each, feedback_id=uuid4()) for each in said_by(users, number, seed) if each.user_ref != "user 0"]
    assert select(never, POLICY).manifest.digest == rest.manifest.digest
