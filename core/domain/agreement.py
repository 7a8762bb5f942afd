"""Who agrees with whom: a coin for each rater, after Dawid and Skene (1979), with their EM algorithm.

Every item has a hidden yes or no, equally likely beforehand. Rater j votes it with probability p_j, and the other one
with 1 - p_j. Given all p, an item's log odds are the sum of ±log(p_j / (1 - p_j)) over its votes; given the items, p_j
is the mean probability that the rater's votes are right. One parameter for a rater instead of a confusion matrix,
since nothing here makes a yes more likely to be mistaken than a no.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

_ROUNDS = 30
_SETTLED = 1e-4
_PRIOR_RIGHT, _PRIOR_VOTES = 3.0, 4.0
"""Raters are thought to be right three times in four before they vote: it keeps p from 0 and 1, and it tells the
solution where most are right from its mirror image."""


class Vote(NamedTuple):
    """One rater's yes or no on an item."""

    rater: str
    item: Hashable
    says: bool


def agreements(votes: Sequence[Vote]) -> dict[str, tuple[int, float]]:
    """Rater → (votes on items that others voted on too, mean probability that the others would say the same).

    A rater's own vote does not count for the truth that it is compared with. Of several votes of a rater on one item
    the first counts. A rater who shares no item is left out.
    """
    shared = _shared(votes)
    by_rater: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for index, voters in enumerate(shared):
        for rater, sign in voters.items():
            by_rater[rater].append((index, sign))
    odds = dict.fromkeys(by_rater, _log_odds(_PRIOR_RIGHT / _PRIOR_VOTES))
    for _ in range(_ROUNDS):
        truth = [sum(sign * odds[rater] for rater, sign in voters.items()) for voters in shared]
        right = {rater: sum(_sigmoid(sign * truth[index]) for index, sign in own) for rater, own in by_rater.items()}
        new = {
            rater: _log_odds((right[rater] + _PRIOR_RIGHT) / (len(own) + _PRIOR_VOTES))
            for rater, own in by_rater.items()
        }
        moved = max((abs(new[rater] - odds[rater]) for rater in odds), default=0.0)
        odds = new
        if moved < _SETTLED:
            break
    truth = [sum(sign * odds[rater] for rater, sign in voters.items()) for voters in shared]
    return {
        rater: (len(own), sum(_sigmoid(sign * truth[index] - odds[rater]) for index, sign in own) / len(own))
        for rater, own in by_rater.items()
    }


def _shared(votes: Sequence[Vote]) -> list[dict[str, float]]:
    """The votes on each item that more than one rater voted on: rater → +1 for yes, -1 for no."""
    items: dict[Hashable, dict[str, float]] = defaultdict(dict)
    for rater, item, says in votes:
        items[item].setdefault(rater, 1.0 if says else -1.0)
    return [voters for voters in items.values() if len(voters) > 1]


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
