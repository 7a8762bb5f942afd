"""Takes a part of the design out of a process, to show that the suite notices."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from core.domain.job import JobKind
from core.infra.repository import job as jobs
from core.infra.repository import lease as leases
from core.infra.table import Job
from core.services import run as runs
from core.services import upkeep


class Part(StrEnum):
    """What can be taken out."""

    FENCE = "fence"  # a run's writes name the job, and no claim epoch
    SWEEP = "sweep"  # nobody takes a job back whose worker died
    RING = "ring"  # nobody looks again for what waits: neither upkeep, which rings, nor the idle worker, which polls


def leave_out(part: Part) -> None:
    """From now on, in this process."""
    match part:
        case Part.FENCE:
            leases._held = _by_id_only
        case Part.SWEEP:
            upkeep.sweep = _nothing
        case Part.RING:
            upkeep.ring_waiting = _nothing
            runs.has_work = _only_trainings


def _by_id_only(job_id: UUID, claim_epoch: int) -> Any:  # noqa: ARG001  # the fence that is missing
    return update(Job).where(Job.id == job_id)


def _only_trainings(session: Session, *, kinds: Sequence[JobKind]) -> bool:
    """A trainer asks so at every doorbell, too; without it no training would ever begin."""
    return JobKind.TRAINING in kinds and jobs.has_ready(session, kinds=kinds)


def _nothing(*_: Any, **__: Any) -> int:
    return 0
