import numpy as np
import pytest

from bench.safety.condition import CONDITIONS, TRIALS, by_rounds
from bench.safety.feed import Feed
from core.domain.feedback import FeedbackKind
from core.domain.opinion import Rule
from core.domain.policy import SelectionPolicy
from core.domain.selection import select


def feed_of(name: str, hours: int = 48) -> Feed:
    feed = Feed(np.random.default_rng(3), per_day=150)
    for _ in range(hours):
        feed.wait(CONDITIONS[name])
    return feed


def test_opinions_come_in_order_and_as_often_as_asked() -> None:
    feed = feed_of("clean, 256")
    times = [opinion.created_at for opinion in feed.opinions]
    assert times == sorted(times)
    assert 240 < len(times) < 360


def test_what_was_counted_starts_no_other_update() -> None:
    feed = feed_of("clean, 256")
    before = feed.standing()
    feed.count()
    feed.rest(days=1)
    after = feed.standing()
    assert before.new_labels == before.pairs == after.pairs == len(feed.opinions)
    assert (after.new_labels, after.hours_since_last_update) == (0, 0.0)


def test_a_crowd_that_likes_everything_gives_thumbs() -> None:
    standing = feed_of("all liked").standing()
    assert (standing.pairs, standing.like_rate) == (0, 1.0)
    assert standing.thumbs == standing.new_labels


def test_the_hostile_user_is_found_out_by_the_rules() -> None:
    feed = feed_of("one hostile user, 30 %")
    found = select(feed.opinions, SelectionPolicy())
    rules = {each.rule for each in found.exclusions}
    hostile = [opinion for opinion in feed.opinions if opinion.user_ref.endswith("other 0")]
    assert len(hostile) > 0.2 * len(feed.opinions)
    assert rules & {Rule.CAP, Rule.RATER, Rule.BURST}
    assert {opinion.kind for opinion in feed.opinions} == {FeedbackKind.CHOICE}


@pytest.mark.parametrize("name", CONDITIONS)
def test_voters_are_as_many_as_the_condition_says(name: str) -> None:
    condition = CONDITIONS[name]
    voters = condition.voters(np.random.default_rng(1))
    drawn = [next(voters) for _ in range(2000)]
    share = sum(user.startswith("other") for user, _ in drawn) / len(drawn)
    assert share == pytest.approx(condition.other_share, abs=0.04)


def test_a_run_cut_short_has_seen_every_condition() -> None:
    order = by_rounds(TRIALS)
    assert sorted(order) == sorted(TRIALS)
    assert len(TRIALS) == len(set(TRIALS)) >= 30
    assert {trial[0] for trial in order[: len(CONDITIONS)]} == set(CONDITIONS)
