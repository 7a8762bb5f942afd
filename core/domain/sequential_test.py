"""Is the challenger better, or worse? A test that may be looked at after every opinion and stays right.

Each comparison is a difference d in [-1, 1] (1: the challenger's picture was preferred) and a weight w in (0, 1].
Under "not better" its mean is at most 0 whatever came before, so for a stake s in (0, 1) the product of 1 + s·w·d is a
non-negative supermartingale that begins at 1: betting that never gains on average. So is its mean over a grid of
stakes, and by Ville's inequality it ever reaches 1 / p with a chance of at most p, however often one looks. With d = ±1
and w = 1 the product is the likelihood ratio of a win probability of (1 + s) / 2 against 1/2, and the mean Robbins'
mixture. Robbins 1970, doi 10.1214/aoms/1177696786; Howard et al. 2021, arXiv 1810.08240; Waudby-Smith and Ramdas 2023,
arXiv 2010.09686.
"""

import math
from collections.abc import Sequence

_STAKES = tuple(k / 16 for k in range(1, 13))
_RATES = tuple(k / 12 for k in range(1, 12))
_MAX_EVIDENCE = 1e12
"""More than any threshold; keeps what is stored a plain number."""


class _Wealth:
    """What bets of several sizes have made of a stake of 1 each; their mean is the evidence."""

    def __init__(self, bets: int) -> None:
        self._logs = [0.0] * bets

    def multiply(self, factors: Sequence[float]) -> None:
        """One more round."""
        self._logs = [log + math.log(factor) for log, factor in zip(self._logs, factors, strict=True)]

    @property
    def mean(self) -> float:
        highest = max(self._logs)
        mean = math.fsum(math.exp(log - highest) for log in self._logs) / len(self._logs)
        return math.exp(min(highest + math.log(mean), math.log(_MAX_EVIDENCE)))


class SequentialTest:
    """Evidence that the challenger is better, and that it is worse; each is an e-value at any time."""

    def __init__(self) -> None:
        self._better, self._worse = _Wealth(len(_STAKES)), _Wealth(len(_STAKES))

    def add(self, difference: float, weight: float = 1.0) -> None:
        """One more comparison. Its weight may depend on anything but its own outcome."""
        gain = difference * weight
        self._better.multiply([1 + stake * gain for stake in _STAKES])
        self._worse.multiply([1 - stake * gain for stake in _STAKES])

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

    def add(self, *, liked: bool, weight: float = 1.0) -> None:
        """One more thumb. Its weight may depend on anything but its own outcome."""
        ratios = (share if liked else (1 - share * self._rate) / (1 - self._rate) for share in _RATES)
        self._wealth.multiply([1 + weight * (ratio - 1) for ratio in ratios])

    @property
    def lower(self) -> float:
        """At least 1 / p with a chance of at most p, ever, where the rate has not fallen."""
        return self._wealth.mean
