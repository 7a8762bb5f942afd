"""Why a job is not taken, and when there will be room for it."""

from collections.abc import Iterator
from math import ceil
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.errors import QueueFull, QuotaExceeded, Refused
from core.domain.job import ALIVE_SECONDS, KINDS_OF_WORKER, WorkerKind
from core.domain.limit import Limits
from core.infra.repository import admission as admissions
from core.infra.repository import limit as usage
from core.infra.repository import worker as workers
from core.infra.repository.admission import Admission

_LONGEST_RETRY = 600
"""Of a line: nobody should have to wait for long to hear that it has changed."""

_DAY_SECONDS = 24 * 3600


def refusal(session: Session, *, tenant_id: UUID, worker: WorkerKind, standing: Admission, limits: Limits) -> Refused:
    """Of the limits that a job is too much for, the one that holds for the longest.

    When there will be room is when it would be if nobody else came, by what jobs are expected to take.
    """
    found = [
        *_by_line(session, tenant_id, worker, standing),
        *_by_quota(session, tenant_id, standing),
        *_by_line_of_all(session, standing, limits),
    ]
    at_once = QueueFull("Others of your requests came at the same instant.", retry_after_seconds=1)
    return max(found, key=lambda each: each.retry_after_seconds, default=at_once)


def _by_line(session: Session, tenant_id: UUID, worker: WorkerKind, standing: Admission) -> Iterator[Refused]:
    jobs, seconds, cost = standing.waiting_jobs, standing.waiting_seconds, standing.cost
    if jobs >= standing.allowed_jobs:
        message = f"{jobs} of your jobs are waiting; at most {standing.allowed_jobs:.0f} may wait for the same workers."
    elif seconds > 0 and seconds + cost > standing.allowed_seconds:
        message = (
            f"About {seconds:.0f} seconds of your work are waiting; "
            f"at most {standing.allowed_seconds:.0f} may wait for the same workers."
        )
        if cost > standing.allowed_seconds:
            message += f" This job alone has about {cost:.0f} seconds: it is taken once none of yours is waiting."
    else:
        return
    ahead = None
    if standing.allowed_jobs > 0:
        ahead = admissions.cost_until_room(
            session, tenant_id=tenant_id, kinds=KINDS_OF_WORKER[worker], standing=standing
        )
    yield QueueFull(message, retry_after_seconds=_within_minutes(_wait(ahead, standing.slots)))


def _by_quota(session: Session, tenant_id: UUID, standing: Admission) -> Iterator[Refused]:
    used, allowed = standing.used_seconds, standing.allowed_gpu_seconds
    excess = used + standing.waiting_seconds_of_all + standing.cost - allowed
    if standing.cost > allowed:
        message = (
            f"This job alone would take about {standing.cost:.0f} seconds, and at most {allowed:.0f} a day are yours: "
            "ask for less at once, or the operator for more."
        )
        yield QuotaExceeded(message, retry_after_seconds=_DAY_SECONDS)
    elif excess > 0:
        message = (
            f"Your jobs ran for {used:.0f} seconds in 24 hours, and about "
            f"{standing.waiting_seconds_of_all + standing.cost:.0f} more would be waiting; "
            f"at most {allowed:.0f} a day are yours."
        )
        until_freed = usage.seconds_until_freed(session, tenant_id=tenant_id, seconds=excess)
        yield QuotaExceeded(message, retry_after_seconds=_DAY_SECONDS if until_freed is None else ceil(until_freed))


def _by_line_of_all(session: Session, standing: Admission, limits: Limits) -> Iterator[Refused]:
    if standing.has_room:
        return
    message = (
        f"{ceil(limits.queued_jobs_of_all)} jobs of all tenants are waiting, as many as may; "
        "yours would be one too many."
    )
    waits = [wait for worker in WorkerKind if (wait := _until_one_starts(session, worker)) is not None]
    yield QueueFull(message, retry_after_seconds=_within_minutes(min(waits, default=None)))


def _until_one_starts(session: Session, worker: WorkerKind) -> float | None:
    """Seconds until the first in line of these workers starts, whosever it is; None if nobody waits, or works."""
    ahead = admissions.cost_until_start(session, kinds=KINDS_OF_WORKER[worker])
    return _wait(ahead, workers.live_slots(session, kind=worker, seen_within_seconds=ALIVE_SECONDS))


def _wait(cost_ahead: float | None, slots: int) -> float | None:
    # Until the last of this has started all slots are full, so it takes no longer.
    return None if cost_ahead is None or not slots else cost_ahead / slots


def _within_minutes(seconds: float | None) -> int:
    """A time to come back after, where it is known."""
    return _LONGEST_RETRY if seconds is None else max(1, min(_LONGEST_RETRY, ceil(seconds)))
