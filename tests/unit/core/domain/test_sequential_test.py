"""The error rates are measured, with a fixed seed; what is proved is tested exactly."""

import itertools
import math
import random

import pytest

from core.domain.sequential_test import LikeRateTest, SequentialTest

STREAMS, LOOKS, NEEDED = 1000, 150, 20.0


def ever(rng: random.Random, win: float, *, each: int = 1) -> tuple[bool, bool]:
    """Whether evidence for better, and for worse, ever reaches what is needed; every voice speaks `each` times."""
    test, better, worse = SequentialTest(), False, False
    for look in range(LOOKS):
        test.add(1.0 if rng.random() < win else -1.0, str(look % (LOOKS // each)))
        better, worse = better or test.better >= NEEDED, worse or test.worse >= NEEDED
    return better, worse


def test_nothing_is_known_before_the_first() -> None:
    test = SequentialTest()
    assert [test.better, test.worse] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("length", [1, 3, 6])
def test_betting_on_a_fair_coin_gains_nothing(length: int) -> None:
    total = 0.0
    for outcomes in itertools.product((-1.0, 1.0), repeat=length):
        test = SequentialTest()
        for number, outcome in enumerate(outcomes, 1):
            test.add(outcome, str(number))
        total += test.better
    assert total / 2**length == pytest.approx(1.0)


def test_better_and_worse_are_mirror_images() -> None:
    one, other = SequentialTest(), SequentialTest()
    for voice, outcome in zip("abbab", (1.0, 1.0, -1.0, 0.5, 0.0), strict=True):
        one.add(outcome, voice)
        other.add(-outcome, voice)
    assert (one.better, one.worse) == (other.worse, other.better)
    assert one.better > 1 > one.worse


@pytest.mark.parametrize("each", [1, 3])
def test_looking_all_the_time_raises_few_false_alarms(each: int) -> None:
    rng = random.Random(7)
    alarms = [ever(rng, 0.5, each=each) for _ in range(STREAMS)]
    assert sum(better for better, _ in alarms) / STREAMS <= 0.05
    assert sum(worse for _, worse in alarms) / STREAMS <= 0.05


def test_a_voice_is_the_mean_of_what_it_said() -> None:
    fickle, twice, once, silent = (SequentialTest() for _ in range(4))
    for difference in (1.0, -1.0):
        fickle.add(difference, "a")
    for _ in range(9):
        twice.add(1.0, "a")
    once.add(1.0, "a")
    assert fickle.better == pytest.approx(silent.better)
    assert twice.better == pytest.approx(once.better)
    assert once.better < 2
    thumbs, thumb = LikeRateTest(0.6), LikeRateTest(0.6)
    for _ in range(9):
        thumbs.add("a", liked=False)
    thumb.add("a", liked=False)
    assert thumbs.lower == pytest.approx(thumb.lower)


def test_a_true_difference_is_found() -> None:
    rng = random.Random(8)
    found = [ever(rng, 0.7) for _ in range(200)]
    assert sum(better for better, _ in found) / 200 >= 0.95
    assert sum(worse for _, worse in found) == 0


def test_endless_evidence_stays_a_number() -> None:
    test = SequentialTest()
    for number in range(5000):
        test.add(1.0, str(number))
    assert test.better == pytest.approx(1e12)
    assert math.isfinite(test.worse)


@pytest.mark.parametrize("rate", [0.3, 0.63])
def test_an_unchanged_like_rate_raises_few_alarms(rate: float) -> None:
    rng = random.Random(9)
    alarms = 0
    for _ in range(STREAMS):
        test, alarm = LikeRateTest(rate), False
        for look in range(LOOKS):
            test.add(str(look), liked=rng.random() < rate)
            alarm = alarm or test.lower >= NEEDED
        alarms += alarm
    assert alarms / STREAMS <= 0.05


def test_a_fallen_like_rate_is_found() -> None:
    rng = random.Random(10)
    found = 0
    for _ in range(200):
        test = LikeRateTest(0.63)
        for number in range(200):
            test.add(str(number), liked=rng.random() < 0.4)
        found += test.lower >= NEEDED
    assert found / 200 >= 0.95


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_nothing_lies_below_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        LikeRateTest(rate)
