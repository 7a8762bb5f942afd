from itertools import islice

import numpy as np
import pytest

from bench.safety import live
from bench.safety.alarm import EQUAL, EvidenceTable, count_alarms, count_like_rate_alarms
from bench.safety.harm import HARMS, force
from core.domain.live_comparison import Comparison, compare
from core.domain.policy import RolloutPolicy
from core.domain.rollout import Arm
from core.domain.sequential_test import SequentialTest

POLICY = RolloutPolicy()


def test_the_table_says_what_the_test_says() -> None:
    rng = np.random.default_rng(5)
    for chance in (0.35, 0.5, 0.7):
        differences = rng.choice((-1.0, 1.0), size=120, p=(1 - chance, chance)).tolist()
        test = SequentialTest()
        first: list[int | None] = [None, None]
        for count, difference in enumerate(differences, start=1):
            test.add(difference, str(count))
            for side, evidence in enumerate((test.better, test.worse)):
                if evidence >= 20 and first[side] is None:
                    first[side] = count
        comparisons = [Comparison(each, str(number)) for number, each in enumerate(differences)]
        assert list(EvidenceTable(20).reached(comparisons)) == first


@pytest.mark.parametrize("name", EQUAL)
def test_equal_arms_seldom_look_different(name: str) -> None:
    row = count_alarms(name, EQUAL[name], streams=10, looks=100, policy=POLICY, seed=4)
    assert len(row.better) <= 2
    assert len(row.worse) <= 4


def test_a_like_rate_that_holds_seldom_looks_lower() -> None:
    assert len(count_like_rate_alarms(streams=20, looks=200, policy=POLICY, seed=4).worse) <= 3


def test_the_loud_user_is_loud_and_always_against() -> None:
    rng = np.random.default_rng(2)
    users = live.with_loud_user(rng, live.fresh_users(), 0.3)
    said = list(islice(live.choices(rng, users, win_rate=1.0), 400))
    loud = [opinion for opinion in said if opinion.user_ref == "loud"]
    assert 80 < len(loud) < 160
    assert {opinion.arm for opinion in loud} == {Arm.INCUMBENT}
    assert {opinion.arm for opinion in said if opinion.user_ref != "loud"} == {Arm.CHALLENGER}
    counted = [each for each in compare(said, max_per_user=POLICY.max_per_user) if each.difference < 0]
    assert len(counted) == POLICY.max_per_user


def test_users_with_fixed_minds_never_change_them() -> None:
    rng = np.random.default_rng(2)
    said = list(islice(live.stubborn_choices(rng, live.returning_users(rng, 5)), 200))
    minds = {(opinion.user_ref, opinion.arm) for opinion in said}
    assert len(minds) == 5


def test_a_user_stays_in_one_arm() -> None:
    rng = np.random.default_rng(2)
    rates = {Arm.CHALLENGER: 0.2, Arm.INCUMBENT: 0.8}
    said = list(islice(live.thumbs(rng, live.returning_users(rng, 20), rates=rates, challenger_share=0.5), 400))
    assert len({(opinion.user_ref, opinion.arm) for opinion in said}) == 20


def test_a_very_bad_champion_is_rolled_back() -> None:
    row = force(HARMS[0], runs=5, policy=POLICY, seed=1)
    assert (row.size, row.rolled_back) == (0.25, 5)
    assert row.median is not None
    assert row.median < 100
