"""Guards of a rollout: does the challenger's arm fail more often, or draw more slowly? They need no opinions."""

import math

from core.domain.policy import RolloutPolicy
from core.domain.value import Float, Int, Specification

MIN_JOBS = 20
"""Ended jobs of each arm before a guard speaks."""

_Z = 2.58  # two-sided 99 %: guards are looked at often


class ArmWork(Specification):
    """The ended jobs of one arm: how many, how many of them failed, the median seconds of a unit of work."""

    jobs: Int = 0
    failed: Int = 0
    seconds_per_unit: Float | None = None


def find_fault(challenger: ArmWork, incumbent: ArmWork, policy: RolloutPolicy) -> str | None:
    """Why the challenger has to go at once, as a sentence; None where nothing is wrong or too little is known.

    Where too few jobs did without the challenger, as when it serves everybody, jobs are expected not to fail.
    """
    if challenger.jobs < MIN_JOBS:
        return None
    if incumbent.jobs < MIN_JOBS:
        return _failing(challenger, ArmWork(), policy)
    return _failing(challenger, incumbent, policy) or _slow(challenger, incumbent, policy)


def _failing(challenger: ArmWork, incumbent: ArmWork, policy: RolloutPolicy) -> str | None:
    usual = incumbent.failed / incumbent.jobs if incumbent.jobs else 0.0
    if lower_bound(challenger.failed, challenger.jobs, z=_Z) <= usual + policy.max_failure_rise:
        return None
    beside = f", and {incumbent.failed} of {incumbent.jobs} without it" if incumbent.jobs else ""
    return f"{challenger.failed} of {challenger.jobs} jobs with the challenger failed{beside}."


def _slow(challenger: ArmWork, incumbent: ArmWork, policy: RolloutPolicy) -> str | None:
    if not challenger.seconds_per_unit or not incumbent.seconds_per_unit:
        return None
    factor = challenger.seconds_per_unit / incumbent.seconds_per_unit
    if factor <= policy.max_slowdown:
        return None
    return f"Pictures with the challenger take {factor:.1f} times as long; at most {policy.max_slowdown:g} is allowed."


def lower_bound(hits: int, count: int, *, z: float) -> float:
    """The lower end of Wilson's interval of a share (Wilson 1927); 0 where nothing was counted."""
    if count == 0:
        return 0.0
    share, spread = hits / count, z * z / count
    middle = share + spread / 2
    return max(0.0, (middle - math.sqrt(spread * (share * (1 - share) + spread / 4))) / (1 + spread))
