"""A candidate on live requests: people choose between its pictures and the champion's, and the real test decides."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.safety.condition import Condition
from bench.safety.live import choice
from bench.safety.quality import Quality, win_rate
from core.domain.live_comparison import LiveOpinion, compare
from core.domain.policy import RolloutPolicy
from core.domain.rollout import RolloutKind
from core.domain.rollout_verdict import RolloutEvidence, Ruling, decide
from core.domain.sequential_test import SequentialTest

LIVE_USERS = 150
ATTACKERS = 5
ATTACKER_SHARE = 0.1
"""Of live opinions, those of people who want the worse model, where the feedback had such people."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a rollout ended, by its test or by its clock, and after how many live opinions."""

    ruling: Ruling
    opinions: int


def vote(
    rng: np.random.Generator, condition: Condition, *, challenger: Quality, incumbent: Quality
) -> Iterator[LiveOpinion]:
    """Side-by-side choices without end, by the quality as most users see it, and by others if there are any."""
    fair = win_rate(challenger, incumbent)
    camp = win_rate(challenger.reversed_taste(), incumbent.reversed_taste())
    is_attacked = condition.others == 1 or condition.most in ("likes_broken", "likes_unclear")
    attackers = 1 if condition.others == 1 else ATTACKERS
    for request in itertools.count():
        number = int(rng.integers(LIVE_USERS))
        user, chance = f"user {number}", fair
        if condition.others > 1 and number < LIVE_USERS * condition.other_share:
            chance = camp
        elif is_attacked and rng.random() < ATTACKER_SHARE:
            chance = 0.0 if challenger.utility > incumbent.utility else 1.0
            user = f"attacker {rng.integers(attackers)}"
        yield choice(user, str(request), wins=rng.random() < chance)


def run(opinions: Iterator[LiveOpinion], policy: RolloutPolicy, *, kind: RolloutKind, per_day: float) -> Ended:
    """Look after every comparison, until the rollout ends by its test or by its clock."""
    days = policy.max_days if kind is RolloutKind.CANARY else policy.watch_days
    heard = list(itertools.islice(opinions, int(per_day * days)))
    test, wins, losses = SequentialTest(), 0, 0
    comparisons = compare(heard, max_per_user=policy.max_per_user)
    for each in comparisons:
        test.add(each.difference, each.voice)
        wins, losses = wins + (each.difference > 0), losses + (each.difference < 0)
        evidence = RolloutEvidence(
            opinions=wins + losses, wins=wins, losses=losses, better=test.better, worse=test.worse
        )
        if ruling := decide(evidence, policy, kind=kind, age_days=0):
            return Ended(ruling, wins + losses)
    ended = decide(RolloutEvidence(opinions=len(heard)), policy, kind=kind, age_days=days)
    assert ended is not None
    return Ended(ended, len(heard))
