"""How many of everything there are, and what the workers hold: for metrics and operators."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from core.domain.holding import Holding, read_holding
from core.domain.job import ALIVE_SECONDS, POISONED, JobKind, JobStatus, WorkerKind
from core.infra.repository import job as jobs
from core.infra.repository import upkeep as upkeeps
from core.infra.repository import webhook as deliveries
from core.infra.repository import worker as workers

UPKEEP = "upkeep"
"""What its processes are counted as beside those of `WorkerKind`."""


@dataclass(frozen=True)
class LiveWorker:
    """A worker process that was seen lately; `holds` is what it last said that it has in memory."""

    id: str
    kind: WorkerKind
    slots: int
    started_at: datetime
    holds: Holding


@dataclass(frozen=True)
class Census:
    """Jobs by (kind, status), jobs that wait by kind, live processes by kind; kinds without any are zero.

    `failed` are those with an error by (kind, its code); who is watched for, the poisoned, are there with zero, too.
    For `jobs_overdue` seconds the lease or deadline is over that was over first. `live` are these processes.
    Webhooks are told, or not yet, by outcome; the longest due one for `webhook_overdue` seconds.
    """

    jobs: Mapping[tuple[JobKind, JobStatus], int]
    queued: Mapping[JobKind, int]
    failed: Mapping[tuple[JobKind, str], int]
    jobs_overdue: float
    workers: Mapping[str, int]
    live: Sequence[LiveWorker]
    webhooks: Mapping[str, int]
    webhook_overdue: float


def take(session: Session) -> Census:
    """Count now."""
    counted: Counter[tuple[JobKind, JobStatus]] = Counter()
    failed = Counter({(kind, POISONED): 0 for kind in JobKind})
    for kind, status, code, number in jobs.count_by_end(session):
        counted[JobKind(kind), JobStatus(status)] += number
        if status == JobStatus.FAILED and code is not None:
            failed[JobKind(kind), code] += number
    live = live_workers(session)
    alive = Counter(worker.kind for worker in live)
    return Census(
        jobs=counted,
        queued={kind: counted[kind, JobStatus.QUEUED] for kind in JobKind},
        failed=failed,
        jobs_overdue=jobs.overdue_seconds(session),
        workers={kind: alive[kind] for kind in WorkerKind}
        | {UPKEEP: upkeeps.count_alive(session, seen_within_seconds=ALIVE_SECONDS)},
        live=live,
        webhooks=dict.fromkeys(deliveries.OUTCOMES, 0) | deliveries.count_by_outcome(session),
        webhook_overdue=deliveries.overdue_seconds(session),
    )


def live_workers(session: Session) -> Sequence[LiveWorker]:
    """Who works now, the oldest first."""
    return [
        LiveWorker(row.id, WorkerKind(row.kind), row.slots, row.started_at, read_holding(row.holds))
        for row in workers.alive(session, seen_within_seconds=ALIVE_SECONDS)
    ]
