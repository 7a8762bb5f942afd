"""A bad champion is forced in: after how many live opinions does its watch roll it back?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bench.safety import live
from bench.safety.live import Users
from core.domain.live_comparison import LiveOpinion
from core.domain.policy import RolloutPolicy
from core.domain.rollout import Arm, RolloutKind, RolloutOutcome
from core.domain.rollout_verdict import Thumbs, decide, weigh

OPINIONS = 200
LOOK_EVERY = 10
USUAL_RATE = 0.7
RECORD, NOTHING = Thumbs(count=200, likes=140), Thumbs()
"""What people said of the predecessor before: at USUAL_RATE, or nothing."""


@dataclass(frozen=True, slots=True)
class Harm:
    """How bad the new champion is, and how people say so."""

    name: str
    size: float
    make: Callable[[np.random.Generator, RolloutPolicy], Iterator[LiveOpinion]]
    recorded: Thumbs = NOTHING


@dataclass(frozen=True, slots=True)
class HarmRow:
    """Of `runs` bad champions so many were rolled back; `opinions` that it took, in order."""

    name: str
    size: float
    runs: int
    rolled_back: int
    opinions: Sequence[int]

    @property
    def median(self) -> float | None:
        return float(np.median(self.opinions)) if self.opinions else None


def _users(rng: np.random.Generator, count: int | None) -> Users:
    return live.fresh_users() if count is None else live.returning_users(rng, count)


def _by_choices(win_rate: float, users: int | None) -> Harm:
    return Harm(
        f"side-by-side choices of {_told(users)}, win rate",
        win_rate,
        lambda rng, _: live.choices(rng, _users(rng, users), win_rate=win_rate),
    )


def _by_thumbs(rate: float, users: int | None, recorded: Thumbs = NOTHING) -> Harm:
    rates = {Arm.CHALLENGER: rate, Arm.INCUMBENT: USUAL_RATE}
    return Harm(
        f"thumbs of {_told(users)}, {'with a' if recorded.count else 'no'} record, like rate against {USUAL_RATE}",
        rate,
        lambda rng, policy: live.thumbs(rng, _users(rng, users), rates=rates, challenger_share=1 - policy.watch_share),
        recorded,
    )


def _told(users: int | None) -> str:
    return f"{OPINIONS} users" if users is None else f"{users} users"


EVERYBODY_ONCE, FEW = None, 60
HARMS = (
    *(_by_choices(rate, EVERYBODY_ONCE) for rate in (0.25, 0.3, 0.35, 0.4)),
    *(_by_choices(rate, FEW) for rate in (0.25, 0.3, 0.35, 0.4)),
    *(_by_thumbs(rate, EVERYBODY_ONCE, RECORD) for rate in (0.25, 0.35, 0.45, 0.55)),
    *(_by_thumbs(rate, FEW, RECORD) for rate in (0.25, 0.35, 0.45, 0.55)),
    *(_by_thumbs(rate, EVERYBODY_ONCE) for rate in (0.25, 0.35, 0.45, 0.55)),
)


def force(harm: Harm, *, runs: int, policy: RolloutPolicy, seed: int) -> HarmRow:
    """Watch so many bad champions, and look after every LOOK_EVERY opinions."""
    taken = []
    for index in range(runs):
        rng = np.random.default_rng([seed, index])
        opinions = list(islice(harm.make(rng, policy), OPINIONS))
        for count in range(LOOK_EVERY, OPINIONS + 1, LOOK_EVERY):
            evidence = weigh(opinions[:count], policy, recorded=harm.recorded)
            ruling = decide(evidence, policy, kind=RolloutKind.WATCH, age_days=0)
            if ruling is not None:
                if ruling.outcome is RolloutOutcome.ROLLED_BACK:
                    taken.append(count)
                break
    return HarmRow(harm.name, harm.size, runs, len(taken), sorted(taken))
