"""Takes a part of the design out of a process, and says by what the suite must notice it."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from chaos.oracle import CHANGED, CROSSED, DUPLICATED, LOST, STALE, UNLAWFUL, Broken
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


BREAKS: Mapping[Part, tuple[tuple[str, str], ...]] = {
    Part.FENCE: ((STALE, ""), (CHANGED, ""), (UNLAWFUL, ""), (DUPLICATED, ""), (CROSSED, "")),
    Part.SWEEP: ((LOST, "status running"),),
    Part.RING: ((LOST, "status queued"),),
}
"""What is broken where a part is missing: any of these promises, in a way of which these words are said."""


def noticed(part: Part, broken: Iterable[Broken]) -> list[Broken]:
    """What was broken by the part's absence, and by nothing else."""
    return [each for each in broken if any(each.promise == name and word in each.how for name, word in BREAKS[part])]


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
