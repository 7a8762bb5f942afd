"""Queries of a worker on the jobs it holds: it claims one, and every later write names the claim's epoch."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    CTE,
    CursorResult,
    Integer,
    Interval,
    Select,
    Subquery,
    Text,
    Update,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    column,
    func,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.types import TypeEngine

from core.domain.job import TERMINAL, JobKind, JobStatus, Progress
from core.infra.repository.job import IN_LINE, READY, seconds_since
from core.infra.table import Job, StableDiffusion

_BEAT: dict[str, TypeEngine[Any]] = {
    "id": Uuid(),
    "epoch": Integer(),
    "step": Integer(),
    "steps": Integer(),
    "message": Text(),
}


def claim_next(
    session: Session,
    *,
    kinds: Sequence[JobKind],
    worker_id: str,
    lease_seconds: float,
    held: Collection[UUID],
    affinity_seconds: float,
    most_crashes: int,
) -> tuple[Job, StableDiffusion] | None:
    """Take a ready job, fence it with a new epoch, and start its lease; the job and its base model.

    One that lost more than `most_crashes` leases is not taken, and not passed either.

    The rule: the first in line, by place, says which tenant's turn it is. But while that has waited for less than
    `affinity_seconds`, the first whose base model is `held` goes before it, if there is one. So a job loses its place
    for no longer than that, and a line that is longer than that is served in order. The turn goes to that tenant's most
    urgent job that costs no more, the oldest of those; what it passes gets its place, so that no tenant gains a turn,
    or a longer one, by being in a hurry.
    """
    statement = _claim(tuple(kinds), prefers_held=bool(held) and affinity_seconds > 0)
    given = {
        "of_worker": worker_id,
        "lease": timedelta(seconds=lease_seconds),
        "held": list(held),
        "affinity": timedelta(seconds=affinity_seconds),
        "most_crashes": most_crashes,
    }
    row = session.execute(statement, given, execution_options={"synchronize_session": False}).one_or_none()
    return None if row is None else (row[0], row[1])


@cache  # to build it takes as long as to run it
def _claim(kinds: Sequence[JobKind], *, prefers_held: bool) -> ReturningUpdate[Job, StableDiffusion]:
    most_crashes = bindparam("most_crashes", type_=Integer())
    chosen = Job.id == _next(kinds, prefers_held)
    columns = (Job.id, Job.tenant_id, Job.priority, Job.created_at, Job.base_model_id, Job.cost_seconds)
    turn = select(*columns).where(chosen).cte("turn")
    first, stands = _first_of_tenant(turn, kinds), aliased(Job)
    passed = (
        update(Job)
        .where(Job.id == first.c.passed_id, first.c.crash_count <= most_crashes)
        .values(place=first.c.place)
        .cte("passed")
    )
    return (
        update(Job)
        .where(
            Job.id == func.coalesce(select(first.c.id).scalar_subquery(), select(turn.c.id).scalar_subquery()),
            Job.crash_count <= most_crashes,
            StableDiffusion.id == Job.base_model_id,
        )
        .values(
            status=JobStatus.RUNNING,
            place=select(stands.place).where(stands.id == turn.c.id).scalar_subquery(),
            claim_epoch=Job.claim_epoch + 1,
            worker_id=bindparam("of_worker", type_=Text()),
            claimed_at=func.now(),
            started_at=func.coalesce(Job.started_at, func.now()),
            progress_at=func.now(),
            lease_expires_at=func.now() + bindparam("lease", type_=Interval()),
        )
        .returning(Job, StableDiffusion)
        .add_cte(passed)
    )


def _next(kinds: Sequence[JobKind], prefers_held: bool) -> Any:
    heads = _heads(kinds)
    line = _line(Job.id, kind=select(heads.c.kind).order_by(*_in_line(heads)).limit(1).scalar_subquery())
    free = [_first_free(line), *(_first_free(_line(Job.id, kind=kind)) for kind in kinds)]
    if not prefers_held:
        return func.coalesce(*free)
    is_held = Job.base_model_id == any_(bindparam("held", type_=ARRAY(Uuid())))
    return func.coalesce(_first_free(line.where(is_held, _is_young(heads))), *free)


def _first_of_tenant(turn: CTE, kinds: Sequence[JobKind]) -> CTE:
    """The job that should have the turn before the one that stands there, if there is one of the same tenant.

    It is more urgent, or as urgent and older: one that was passed before. Of another base model it has to be more
    urgent, for the turn may be one that was given to a model which is held. And it costs no more than the one whose
    turn it takes: places are as far apart as the jobs that stood there were long, so a longer one would take time from
    other tenants.
    """
    passed_id, tenant_id, priority, created_at, model_id, cost = (select(each).scalar_subquery() for each in turn.c)
    query = select(Job.id, Job.place, Job.crash_count, passed_id.label("passed_id")).where(
        READY,
        Job.kind.in_(kinds),
        Job.tenant_id == tenant_id,
        tuple_(Job.priority, Job.created_at) < tuple_(priority, created_at),
        or_(Job.priority < priority, Job.base_model_id == model_id),
        Job.cost_seconds <= cost,
    )
    return query.order_by(Job.priority, Job.created_at).limit(1).with_for_update(skip_locked=True).cte("first")


def _line(*columns: Any, kind: Any) -> Select[Any]:
    """The first in line of the ready jobs of a kind."""
    return select(*columns).where(READY, Job.kind == kind).order_by(*IN_LINE).limit(1)


def _first_free(line: Select[Any]) -> Any:
    return line.with_for_update(skip_locked=True).scalar_subquery()


def _heads(kinds: Sequence[JobKind]) -> Subquery:
    """The first in line of each kind: that is how they stand in the index, and all together would have to be sorted."""
    return union_all(*(_line(Job.kind, *IN_LINE, kind=kind) for kind in kinds)).subquery()


def _in_line(heads: Subquery) -> tuple[Any, Any]:
    return heads.c.place, heads.c.created_at


def _is_young(heads: Subquery) -> Any:
    """Whether the first in line has not waited for long."""
    is_young = heads.c.created_at > func.now() - bindparam("affinity", type_=Interval())
    return select(is_young).order_by(*_in_line(heads)).limit(1).scalar_subquery()


def renew(
    session: Session, *, held: Sequence[tuple[UUID, int, Progress | None]], lease_seconds: float
) -> dict[tuple[UUID, int], bool]:
    """Renew the leases of running jobs by id and claim epoch, and write their progress where there is some.

    Whether its cancel was asked for, of each that is still held. One that another transaction has locked is left out,
    so that all others need not wait for it.
    """
    rows = [
        (job_id, epoch, said and said.step, said and said.steps, said and said.message) for job_id, epoch, said in held
    ]
    values: list[Any] = [
        bindparam(None, list(each), type_=ARRAY(type_))
        for each, type_ in zip(zip(*rows, strict=True), _BEAT.values(), strict=True)
    ]
    columns: list[Any] = [column(name, type_) for name, type_ in _BEAT.items()]
    beat = func.unnest(*values).table_valued(*columns).render_derived(name="beat")
    is_held = and_(Job.id == beat.c.id, Job.claim_epoch == beat.c.epoch, Job.status == JobStatus.RUNNING)
    free = select(beat).join(Job, is_held).with_for_update(of=Job, skip_locked=True).cte("free")
    statement = (
        update(Job)
        .where(Job.id == free.c.id)
        .values(
            lease_expires_at=func.now() + timedelta(seconds=lease_seconds),
            progress_step=func.coalesce(free.c.step, Job.progress_step),
            progress_steps=func.coalesce(free.c.steps, Job.progress_steps),
            progress_message=func.coalesce(free.c.message, Job.progress_message),
            progress_at=case((free.c.step.is_not(None), func.now()), else_=Job.progress_at),
        )
        .returning(Job.id, Job.claim_epoch, Job.cancel_requested)
    )
    answers = session.execute(statement, execution_options={"synchronize_session": False})
    return {(job_id, epoch): bool(canceled) for job_id, epoch, canceled in answers}


def running_epochs(session: Session, *, job_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
    """Ids and claim epochs of those that run, whoever has them locked."""
    query = select(Job.id, Job.claim_epoch).where(Job.id.in_(job_ids), Job.status == JobStatus.RUNNING)
    return {(job_id, epoch) for job_id, epoch in session.execute(query)}


def write(session: Session, *, job_id: UUID, claim_epoch: int, values: dict[str, Any]) -> bool:
    """Write to a running job that is still held; whether it was."""
    return cast("CursorResult[Any]", session.execute(_held(job_id, claim_epoch).values(**values))).rowcount == 1


def end_run(
    session: Session, *, job_id: UUID, claim_epoch: int, status: JobStatus, values: dict[str, Any]
) -> tuple[float, float | None] | None:
    """Move a running job that is still held to `status`: its work units and the seconds of this run.

    One that goes back in line after its cancel was asked for ends instead: nobody would claim it there. The seconds are
    None where it goes on; the answer is None where the job was lost.
    """
    values = {"status": status.value, "lease_expires_at": None, "worker_id": None} | values
    end = {"completed_at": func.now(), "execution_seconds": seconds_since(Job.claimed_at)}
    if status in TERMINAL:
        values |= end
    else:
        end["status"] = JobStatus.CANCELED.value
        values |= {name: case((Job.cancel_requested, value), else_=values.get(name)) for name, value in end.items()}
    statement = _held(job_id, claim_epoch).values(**values).returning(Job.work_units, Job.execution_seconds)
    row = session.execute(statement, execution_options={"synchronize_session": False}).one_or_none()
    return None if row is None else (row.work_units, row.execution_seconds)


def _held(job_id: UUID, claim_epoch: int) -> Update:
    return update(Job).where(Job.id == job_id, Job.claim_epoch == claim_epoch, Job.status == JobStatus.RUNNING)


def expire_leases_of(session: Session, *, worker_id: str) -> None:
    """The worker is known to be dead: let upkeep take its jobs back at once."""
    session.execute(
        update(Job)
        .where(Job.worker_id == worker_id, Job.status == JobStatus.RUNNING)
        .values(lease_expires_at=func.now()),
        execution_options={"synchronize_session": False},
    )


def standing(session: Session, *, job_id: UUID) -> tuple[int, JobStatus] | None:
    """A job's claim epoch and stored status."""
    row = session.execute(select(Job.claim_epoch, Job.status).where(Job.id == job_id)).one_or_none()
    return None if row is None else (row.claim_epoch, JobStatus(row.status))
