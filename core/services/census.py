"""How many of everything there are: for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.domain.job import JobKind, JobStatus, WorkerKind
from core.infra.repository import job as jobs
from core.infra.repository import worker as workers
from core.services.job import ALIVE_SECONDS


@dataclass(frozen=True)
class Census:
    """Jobs by (kind, status), jobs that wait by kind, live worker processes by kind; kinds without any are zero."""

    jobs: Mapping[tuple[JobKind, JobStatus], int]
    queued: Mapping[JobKind, int]
    workers: Mapping[WorkerKind, int]


def take(session: Session) -> Census:
    """Count now."""
    counted = {(JobKind(kind), JobStatus(status)): number for kind, status, number in jobs.count_by_status(session)}
    alive = workers.count(session, seen_within_seconds=ALIVE_SECONDS)
    return Census(
        jobs=counted,
        queued={kind: counted.get((kind, JobStatus.QUEUED), 0) for kind in JobKind},
        workers={kind: alive.get(kind, 0) for kind in WorkerKind},
    )
