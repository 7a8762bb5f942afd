"""Queries on jobs. Every time is the database's own."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, Select, Update, and_, case, func, or_, select, tuple_, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from core.domain.job import TERMINAL, JobKind, JobStatus
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, UserFeedback, WorkRate

READY = and_(
    Job.status == JobStatus.QUEUED,
    Job.run_after <= func.now(),
    ~Job.cancel_requested,
    or_(Job.deadline_at.is_(None), Job.deadline_at > func.now()),
)
ACTIVE = Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])


def by_idempotency_key(session: Session, *, tenant_id: UUID, key: str) -> Job | None:
    query = select(Job).where(Job.tenant_id == tenant_id, Job.idempotency_key == key)
    return session.scalars(query.options(selectinload(Job.artifacts))).one_or_none()


def by_id(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job | None:
    """A tenant's job with its artifacts."""
    query = select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id)
    return session.scalars(query.options(selectinload(Job.artifacts))).one_or_none()


def page(
    session: Session,
    *,
    tenant_id: UUID,
    status: JobStatus | None,
    kind: JobKind | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Job]:
    """A tenant's jobs, newest first, that come after `before` in that order."""
    query = select(Job).where(Job.tenant_id == tenant_id).options(selectinload(Job.artifacts))
    if status is JobStatus.CANCELING:
        query = query.where(Job.status == JobStatus.RUNNING, Job.cancel_requested)
    elif status is JobStatus.RUNNING:
        query = query.where(Job.status == JobStatus.RUNNING, ~Job.cancel_requested)
    elif status is not None:
        query = query.where(Job.status == status)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if before is not None:
        query = query.where(tuple_(Job.created_at, Job.id) < before)
    return session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()


def claim_next(
    session: Session,
    *,
    kinds: Sequence[JobKind],
    worker_id: str,
    lease_seconds: float,
    held: Collection[UUID],
    affinity_seconds: float,
) -> Job | None:
    """Take a ready job, fence it with a new epoch, and start its lease.

    The rule: the first in line, by priority and age. But while that has waited for less than `affinity_seconds`, the
    first of the same priority whose base model is `held` goes before it, if there is one. So a job loses its place
    for no longer than that, and a line that is longer than that is served in order.
    """
    line = _line(Job.id, kinds=kinds)
    chosen = _first_free(line)
    if held and affinity_seconds > 0:
        may_pass = Job.priority == _young_priority(kinds, affinity_seconds)
        chosen = func.coalesce(_first_free(line.where(Job.base_model_id.in_(held), may_pass)), chosen)
    statement = (
        update(Job)
        .where(Job.id == chosen)
        .values(
            status=JobStatus.RUNNING,
            claim_epoch=Job.claim_epoch + 1,
            worker_id=worker_id,
            claimed_at=func.now(),
            started_at=func.coalesce(Job.started_at, func.now()),
            progress_at=func.now(),
            lease_expires_at=func.now() + timedelta(seconds=lease_seconds),
        )
        .returning(Job)
    )
    return session.scalars(statement, execution_options={"synchronize_session": False}).one_or_none()


def _line(*columns: Any, kinds: Sequence[JobKind]) -> Select[Any]:
    """The first in line of the ready jobs of these kinds."""
    return select(*columns).where(READY, Job.kind.in_(kinds)).order_by(Job.priority, Job.created_at).limit(1)


def _first_free(line: Select[Any]) -> Any:
    return line.with_for_update(skip_locked=True).scalar_subquery()


def _young_priority(kinds: Sequence[JobKind], seconds: float) -> Any:
    """The priority of the first in line, or NULL, which is equal to none, where that has waited for `seconds`."""
    # One kind at a time stands sorted in the index; several at once would be sorted at every claim.
    heads = union_all(*(_line(Job.priority, Job.created_at, kinds=[kind]) for kind in kinds)).subquery()
    is_young = heads.c.created_at > func.now() - timedelta(seconds=seconds)
    first = select(case((is_young, heads.c.priority))).order_by(heads.c.priority, heads.c.created_at)
    return first.limit(1).scalar_subquery()


def _held(job_id: UUID, claim_epoch: int) -> Update:
    return update(Job).where(Job.id == job_id, Job.claim_epoch == claim_epoch, Job.status == JobStatus.RUNNING)


def renew(session: Session, *, job_id: UUID, claim_epoch: int, values: dict[str, Any]) -> bool | None:
    """Write to a running job that is still held: whether its cancel was asked for, or None when it was lost."""
    row = session.execute(_held(job_id, claim_epoch).values(**values).returning(Job.cancel_requested)).one_or_none()
    return None if row is None else bool(row.cancel_requested)


def end_run(session: Session, *, job_id: UUID, claim_epoch: int, status: JobStatus, values: dict[str, Any]) -> bool:
    """Move a running job that is still held to `status`; whether it was."""
    values = {"status": status, "lease_expires_at": None, "worker_id": None} | values
    if status in TERMINAL:
        values |= {"completed_at": func.now(), "execution_seconds": _seconds_since(Job.claimed_at)}
    return _count(session, _held(job_id, claim_epoch).values(**values)) == 1


def _seconds_since(column: Any) -> Any:
    return func.extract("epoch", func.now() - column)


def _count(session: Session, statement: Any) -> int:
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def request_cancel(session: Session, *, tenant_id: UUID, job_id: UUID) -> None:
    """Cancel a queued job at once; ask a running one's worker to stop."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.tenant_id == tenant_id, ACTIVE)
        .values(
            cancel_requested=True,
            status=case((Job.status == JobStatus.QUEUED, JobStatus.CANCELED.value), else_=Job.status),
            completed_at=case((Job.status == JobStatus.QUEUED, func.now()), else_=Job.completed_at),
        ),
        execution_options={"synchronize_session": False},
    )


def overdue(session: Session, *, stall_seconds: float, limit: int) -> Sequence[tuple[Job, bool, bool]]:
    """Locked jobs that need upkeep: (job, its deadline passed, its run is dead or stalled)."""
    late = Job.deadline_at <= func.now()
    dead = and_(
        Job.status == JobStatus.RUNNING,
        or_(
            Job.lease_expires_at <= func.now(),
            Job.progress_at <= func.now() - timedelta(seconds=stall_seconds),
        ),
    )
    query = (
        select(Job, func.coalesce(late, False), func.coalesce(dead, False))
        .where(ACTIVE, or_(late, dead))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(job, bool(is_late), bool(is_dead)) for job, is_late, is_dead in session.execute(query)]


def take_unrung(
    session: Session, *, kinds: Sequence[JobKind], ring_seconds: float, limit: int
) -> Sequence[tuple[JobKind, UUID]]:
    """Ready jobs whose doorbell was never rung or may be lost, first in line first; marks them rung now."""
    silent = or_(Job.rung_at.is_(None), Job.rung_at <= func.now() - timedelta(seconds=ring_seconds))
    chosen = (
        select(Job.id)
        .where(READY, Job.kind.in_(kinds), silent)
        .order_by(Job.priority, Job.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(
        update(Job).where(Job.id.in_(chosen)).values(rung_at=func.now()).returning(Job.kind, Job.id),
        execution_options={"synchronize_session": False},
    )
    return [(JobKind(kind), job_id) for kind, job_id in rows]


def ahead(session: Session, job: Job, *, kinds: Sequence[JobKind]) -> tuple[int, float]:
    """Jobs that run before a queued one: how many wait, and the estimated seconds of all, running ones included."""
    first = or_(
        Job.priority < job.priority,
        and_(Job.priority == job.priority, tuple_(Job.created_at, Job.id) < (job.created_at, job.id)),
    )
    waiting = and_(Job.status == JobStatus.QUEUED, first)
    running_for = func.coalesce(_seconds_since(Job.claimed_at), 0.0)
    left = case(
        (Job.status == JobStatus.RUNNING, func.greatest(Job.cost_seconds - running_for, 0.0)), else_=Job.cost_seconds
    )
    row = session.execute(
        select(func.count().filter(waiting), func.coalesce(func.sum(left), 0.0)).where(
            Job.kind.in_(kinds), or_(waiting, Job.status == JobStatus.RUNNING)
        )
    ).one()
    return int(row[0]), float(row[1])


def record_rate(session: Session, *, base_model_id: UUID, kind: str, seconds_per_unit: float) -> None:
    """Move the average of a model's speed a fifth of the way to the newest measurement."""
    statement = insert(WorkRate).values(base_model_id=base_model_id, kind=kind, seconds_per_unit=seconds_per_unit)
    average = WorkRate.seconds_per_unit * 0.8 + statement.excluded.seconds_per_unit * 0.2
    session.execute(
        statement.on_conflict_do_update(index_elements=["base_model_id", "kind"], set_={"seconds_per_unit": average})
    )


def forget_idempotency_keys(session: Session, *, older_than: timedelta) -> None:
    session.execute(
        update(Job)
        .where(Job.idempotency_key.is_not(None), Job.created_at < func.now() - older_than)
        .values(idempotency_key=None),
        execution_options={"synchronize_session": False},
    )


def count_by_status(session: Session) -> Sequence[tuple[str, str, int]]:
    """(kind, status, count) of every job, for metrics."""
    rows = session.execute(select(Job.kind, Job.status, func.count()).group_by(Job.kind, Job.status))
    return [(kind, status, count) for kind, status, count in rows]


def ended_among(session: Session, *, job_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the jobs that have ended, or are gone."""
    query = select(Job.id).where(Job.id.in_(job_ids), Job.status.not_in(TERMINAL))
    return set(job_ids) - set(session.scalars(query))


def has_ready(session: Session, *, kinds: Sequence[JobKind]) -> bool:
    return session.scalar(select(Job.id).where(READY, Job.kind.in_(kinds)).limit(1)) is not None


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


def old_terminal(session: Session, *, older_than: timedelta, limit: int) -> Sequence[Job]:
    """Finished jobs past their retention that nothing but withdrawn feedback points to any more, locked."""
    kept = select(Adapter.job_id).where(Adapter.job_id.is_not(None))
    told = select(ModelUpdate.job_id).where(ModelUpdate.job_id.is_not(None))
    on_image = or_(UserFeedback.image_id == Artifact.id, UserFeedback.rejected_image_id == Artifact.id)
    judged = select(Artifact.job_id).join(UserFeedback, on_image).where(UserFeedback.withdrawn_at.is_(None))
    return session.scalars(
        select(Job)
        .where(
            Job.status.in_(TERMINAL),
            Job.completed_at < func.now() - older_than,
            Job.id.not_in(kept),
            Job.id.not_in(told),
            Job.id.not_in(judged),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
