"""Is the challenger better, or worse? A test that may be looked at after every opinion and stays right.

Each comparison is a difference d in [-1, 1] (1: the challenger's picture was preferred) that belongs to a voice: to
who said it. Under "not better" the mean of a voice is at most 0 whatever others said, so for a stake s in (0, 1) the
product of 1 + s·d over voices is a non-negative supermartingale that begins at 1: betting that never gains on average.
So is its mean over a grid of stakes, and by Ville's inequality it ever reaches 1 / p with a chance of at most p,
however often one looks. With d = ±1 the product is the likelihood ratio of a win probability of (1 + s) / 2 against
1/2, and the mean Robbins' mixture. Robbins 1970, doi 10.1214/aoms/1177696786; Howard et al. 2021, arXiv 1810.08240;
Waudby-Smith and Ramdas 2023, arXiv 2010.09686.

Who speaks again is nobody new: the d of a voice is the mean of all that it said. So the bound holds where people have
made up their minds once and for all, and no voice multiplies evidence by 2. Where they toss a coin each time instead,
the product is still an e-value at each moment, but no supermartingale; `bench.loop_safety` counts the alarms then, and
with few comparisons of a voice they stay below p.
"""

import math
from collections.abc import Sequence

_STAKES = tuple(k / 16 for k in range(1, 13))
_RATES = tuple(k / 12 for k in range(1, 12))
_MAX_EVIDENCE = 1e12
"""More than any threshold; keeps what is stored a plain number."""


class _Voices:
    """The mean of what each voice has said so far."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}

    def hear(self, voice: str, value: float) -> float:
        """The voice's mean, this value included."""
        total, count = self._said.get(voice, (0.0, 0))
        self._said[voice] = total + value, count + 1
        return (total + value) / (count + 1)


class _Wealth:
    """What bets of several sizes have made of a stake of 1 each; their mean is the evidence."""

    def __init__(self, bets: int) -> None:
        self._logs = [0.0] * bets
        self._made: dict[str, list[float]] = {}

    def settle(self, voice: str, factors: Sequence[float]) -> None:
        """What a voice makes of each bet, in place of what it made before."""
        logs = [math.log(factor) for factor in factors]
        before = self._made.get(voice, [0.0] * len(logs))
        self._logs = [log + new - old for log, new, old in zip(self._logs, logs, before, strict=True)]
        self._made[voice] = logs

    @property
    def mean(self) -> float:
        highest = max(self._logs)
        mean = math.fsum(math.exp(log - highest) for log in self._logs) / len(self._logs)
        return math.exp(min(highest + math.log(mean), math.log(_MAX_EVIDENCE)))


class SequentialTest:
    """Evidence that the challenger is better, and that it is worse; each is an e-value at any time."""

    def __init__(self) -> None:
        self._better, self._worse = _Wealth(len(_STAKES)), _Wealth(len(_STAKES))
        self._voices = _Voices()

    def add(self, difference: float, voice: str) -> None:
        """One more comparison by this voice."""
        mean = self._voices.hear(voice, difference)
        self._better.settle(voice, [1 + stake * mean for stake in _STAKES])
        self._worse.settle(voice, [1 - stake * mean for stake in _STAKES])

    @property
    def better(self) -> float:
        """At least 1 / p with a chance of at most p, ever, where the challenger is not better."""
        return self._better.mean

    @property
    def worse(self) -> float:
        """The same where the challenger is not worse."""
        return self._worse.mean


class LikeRateTest:
    """Evidence that pictures are liked less than a recorded rate: the likelihood ratio, mixed over lower rates."""

    def __init__(self, rate: float) -> None:
        if not 0 < rate < 1:
            raise ValueError("a rate that can be fallen below lies between 0 and 1")
        self._rate = rate
        self._wealth = _Wealth(len(_RATES))
        self._voices = _Voices()

    def add(self, voice: str, *, liked: bool) -> None:
        """One more thumb by this voice."""
        mean = self._voices.hear(voice, float(liked))
        ratios = [mean * share + (1 - mean) * (1 - share * self._rate) / (1 - self._rate) for share in _RATES]
        self._wealth.settle(voice, ratios)

    @property
    def lower(self) -> float:
        """At least 1 / p with a chance of at most p, ever, where the rate has not fallen."""
        return self._wealth.mean
