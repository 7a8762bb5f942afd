"""How often the sequential test decides although both arms are as good, looked at after every opinion."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bench.safety import live
from bench.safety.live import Users
from core.domain.live_comparison import Comparison, LiveOpinion, compare
from core.domain.policy import RolloutPolicy
from core.domain.rollout import Arm
from core.domain.sequential_test import LikeRateTest, SequentialTest

LOOKS = 1000
RECORD_RATE = 0.7
_AHEAD = 100
Streams = Callable[[np.random.Generator], Iterator[LiveOpinion]]


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """After how many comparisons some of the streams looked as if the challenger were better, or worse.

    What would be wrong at once, a promotion (`better`) or an abort (`worse`), is held against false_alarm by itself.
    """

    name: str
    streams: int
    looks: int
    better: Sequence[int]
    worse: Sequence[int]


def _even(rate: float) -> dict[Arm, float]:
    return {Arm.CHALLENGER: rate, Arm.INCUMBENT: rate}


def _crowd(rng: np.random.Generator) -> Users:
    return live.returning_users(rng, 100)


EQUAL: dict[str, Streams] = {
    "choices, everybody once": lambda rng: live.choices(rng, live.fresh_users(), win_rate=0.5),
    "choices, 100 users": lambda rng: live.choices(rng, _crowd(rng), win_rate=0.5),
    "choices, 100 users with fixed minds": lambda rng: live.stubborn_choices(rng, _crowd(rng)),
    "choices, one user against gives 30 %": lambda rng: live.choices(
        rng, live.with_loud_user(rng, live.fresh_users(), 0.3), win_rate=0.5
    ),
    "thumbs of two arms, half each": lambda rng: live.thumbs(
        rng, live.fresh_users(), rates=_even(0.7), challenger_share=0.5
    ),
    "thumbs of two arms, a tenth and the rest": lambda rng: live.thumbs(
        rng, live.fresh_users(), rates=_even(0.7), challenger_share=0.9
    ),
    "thumbs side by side, 100 users": lambda rng: live.side_by_side_thumbs(rng, _crowd(rng), rates=_even(0.7)),
    "thumbs, one user dislikes all, 30 %": lambda rng: live.thumbs(
        rng, live.with_loud_user(rng, live.fresh_users(), 0.3), rates=_even(0.7), challenger_share=0.5
    ),
}
"""Streams in which no arm is better than the other; in some of them one user does what he can."""

PLAIN = ("choices, everybody once", "thumbs of two arms, half each")
"""The streams that a target is set for; the others are there to find out what breaks it."""


def count_alarms(name: str, make: Streams, *, streams: int, looks: int, policy: RolloutPolicy, seed: int) -> AlarmRow:
    """Follow each stream for so many opinions, and look after every comparison."""
    better: list[int] = []
    worse: list[int] = []
    needed = 1 / policy.false_alarm
    table = EvidenceTable(needed)
    for index in range(streams):
        opinions = list(islice(make(np.random.default_rng([seed, index])), looks))
        high, low = table.reached(compare(opinions, max_per_user=policy.max_per_user))
        better += [] if high is None else [high]
        worse += [] if low is None else [low]
    return AlarmRow(name, streams, looks, sorted(better), sorted(worse))


class EvidenceTable:
    """When the evidence of a stream first reaches what is `needed`.

    Where everybody speaks once, evidence depends on the numbers of wins and losses alone, so the real test is asked
    once for each pair of numbers, and remembered; other streams go through it one by one.
    """

    def __init__(self, needed: float) -> None:
        self._needed = needed
        self._known: dict[tuple[int, int], tuple[bool, bool]] = {}

    def reached(self, comparisons: Sequence[Comparison]) -> tuple[int | None, int | None]:
        """After how many comparisons there is enough for better, and for worse; None where there never is."""
        is_simple = len({each.voice for each in comparisons}) == len(comparisons)
        looks = self._look_up(comparisons) if is_simple else self._go_through(comparisons)
        better = worse = None
        for count, (is_better, is_worse) in enumerate(looks, start=1):
            better = count if is_better and better is None else better
            worse = count if is_worse and worse is None else worse
        return better, worse

    def _go_through(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[bool, bool]]:
        test = SequentialTest()
        for each in comparisons:
            test.add(each.difference, each.voice)
            yield test.better >= self._needed, test.worse >= self._needed

    def _look_up(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[bool, bool]]:
        wins = losses = 0
        for each in comparisons:
            wins, losses = wins + (each.difference > 0), losses + (each.difference < 0)
            yield self._of(wins, losses)

    def _of(self, wins: int, losses: int) -> tuple[bool, bool]:
        if (wins, losses) not in self._known:
            test = SequentialTest()
            for number in range(wins):
                test.add(1.0, f"for {number}")
            # A product does not mind the order, so a row of the table is filled on the way, and some way on.
            for count in range(losses + _AHEAD):
                if count:
                    test.add(-1.0, f"against {count}")
                self._known[wins, count] = (test.better >= self._needed, test.worse >= self._needed)
        return self._known[wins, losses]


def count_like_rate_alarms(*, streams: int, looks: int, policy: RolloutPolicy, seed: int) -> AlarmRow:
    """The test of one arm's like rate against a record, where the rate is what the record says."""
    alarms = []
    for index in range(streams):
        rng, test = np.random.default_rng([seed, index]), LikeRateTest(RECORD_RATE)
        for count, liked in enumerate((rng.random(looks) < RECORD_RATE).tolist(), start=1):
            test.add(str(count), liked=liked)
            if test.lower >= 1 / policy.false_alarm:
                alarms.append(count)
                break
    return AlarmRow("like rate against a record", streams, looks, [], sorted(alarms))
