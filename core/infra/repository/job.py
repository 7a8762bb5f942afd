"""Queries on jobs. Every time is the database's own."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session, aliased, defer, selectinload

from core.domain.job import PLAN_VERSION, TERMINAL, JobKind, JobStatus
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, StableDiffusion, UserFeedback, WorkRate

READY = and_(
    Job.status == JobStatus.QUEUED,
    Job.run_after <= func.now(),
    ~Job.cancel_requested,
    Job.plan_version <= PLAN_VERSION,
    or_(Job.deadline_at.is_(None), Job.deadline_at > func.now()),
)
IN_LINE = (Job.place, Job.created_at)
"""The order in which tenants' turns come; whose turn it is has his most urgent job served."""

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


def seconds_since(column: Any) -> Any:
    """How long ago a time was, by the database's clock."""
    return func.extract("epoch", func.now() - column)


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


def overdue_seconds(session: Session) -> float:
    """By how much the oldest expired lease or passed deadline is overdue; 0 where there is none."""
    lease = select(func.min(Job.lease_expires_at)).where(Job.status == JobStatus.RUNNING).scalar_subquery()
    deadline = select(func.min(Job.deadline_at)).where(ACTIVE).scalar_subquery()
    return max(0.0, float(session.scalar(select(seconds_since(func.least(lease, deadline)))) or 0.0))


def take_unrung(
    session: Session, *, kinds: Sequence[JobKind], ring_seconds: float, limit: int
) -> Sequence[tuple[JobKind, UUID]]:
    """Ready jobs whose doorbell was never rung or may be lost, first in line first; marks them rung now."""
    silent = or_(Job.rung_at.is_(None), Job.rung_at <= func.now() - timedelta(seconds=ring_seconds))
    chosen = (
        select(Job.id)
        .where(READY, Job.kind.in_(kinds), silent)
        .order_by(*IN_LINE)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(
        update(Job).where(Job.id.in_(chosen)).values(rung_at=func.now()).returning(Job.kind, Job.id),
        execution_options={"synchronize_session": False},
    )
    return [(JobKind(kind), job_id) for kind, job_id in rows]


_AHEAD = text(
    """
    WITH own AS (
      SELECT priority, place, created_at, id FROM job
      WHERE tenant_id = :tenant_id AND kind = ANY(:kinds) AND status = 'queued'
    ), turn AS (  -- the turn that will be its own, since more urgent jobs of the tenant go before it
      SELECT place, created_at, id FROM own ORDER BY place, created_at, id
      OFFSET (SELECT count(*) FROM own WHERE (priority, created_at, id) < (:priority, :created_at, :id))
      LIMIT 1
    )
    SELECT jobs, seconds FROM turn, line_ahead(:kinds, place, created_at, id)
    """
).bindparams(bindparam("kinds", type_=ARRAY(Text)))


def ahead(session: Session, job: Job, *, kinds: Sequence[JobKind]) -> tuple[int, float]:
    """Jobs that run before a queued one: how many wait, and the estimated seconds of all, running ones included."""
    its = {"tenant_id": job.tenant_id, "priority": job.priority, "created_at": job.created_at, "id": job.id}
    row = session.execute(_AHEAD, its | {"kinds": list(kinds)}).one_or_none()
    return (int(row.jobs), float(row.seconds)) if row else (0, 0.0)  # without a row it was claimed this moment


def record_rate(session: Session, *, base_model_id: UUID, kind: str, seconds_per_unit: float) -> None:
    """Move the average of a model's speed a fifth of the way to the newest measurement."""
    given = {"base_model_id": base_model_id, "kind": kind, "seconds_per_unit": seconds_per_unit}
    session.execute(_record_rate(), given)


@cache  # to build it takes as long as to run it
def _record_rate() -> Insert:
    statement = insert(WorkRate)
    average = WorkRate.seconds_per_unit * 0.8 + statement.excluded.seconds_per_unit * 0.2
    return statement.on_conflict_do_update(index_elements=["base_model_id", "kind"], set_={"seconds_per_unit": average})


def forget_idempotency_keys(session: Session, *, older_than: timedelta) -> None:
    session.execute(
        update(Job)
        .where(Job.idempotency_key.is_not(None), Job.created_at < func.now() - older_than)
        .values(idempotency_key=None),
        execution_options={"synchronize_session": False},
    )


def count_by_end(session: Session) -> Sequence[tuple[str, str, str | None, int]]:
    """(kind, status, code of the error, count) of every job, for metrics."""
    group = (Job.kind, Job.status, Job.error_code)
    rows = session.execute(select(*group, func.count()).group_by(*group))
    return [(kind, status, code, count) for kind, status, code, count in rows]


def ended_among(session: Session, *, job_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the jobs that have ended, or are gone."""
    query = select(Job.id).where(Job.id.in_(job_ids), Job.status.not_in(TERMINAL))
    return set(job_ids) - set(session.scalars(query))


def first_in_line(session: Session, *, kind: JobKind, limit: int) -> Sequence[tuple[dict[str, Any], StableDiffusion]]:
    """Plans and base models, without their modules, of the ready jobs that stand first and never cost a worker."""
    query = (
        select(Job.plan, StableDiffusion)
        .join(StableDiffusion, StableDiffusion.id == Job.base_model_id)
        .options(defer(StableDiffusion.modules))
        .where(READY, Job.kind == kind, Job.crash_count == 0)
    )
    return [(plan, model) for plan, model in session.execute(query.order_by(*IN_LINE).limit(limit))]


def has_ready(session: Session, *, kinds: Sequence[JobKind]) -> bool:
    return session.scalar(select(Job.id).where(READY, Job.kind.in_(kinds)).limit(1)) is not None


def _keepers() -> list[ColumnElement[bool]]:
    """What keeps a finished job: its adapter, the model update that it was, a word on a picture of it that stands."""
    words = (UserFeedback.image_id, UserFeedback.rejected_image_id)
    return [
        exists().where(Adapter.job_id == Job.id),
        exists().where(ModelUpdate.job_id == Job.id),
        *(
            exists().where(Artifact.job_id == Job.id, image == Artifact.id, UserFeedback.withdrawn_at.is_(None))
            for image in words
        ),
    ]


def kept_among(session: Session, *, job_ids: Collection[UUID]) -> set[UUID]:
    """Those of the jobs that stay beyond their retention."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(job_ids), or_(*_keepers()))))


def old_terminal(session: Session, *, kind: JobKind, older_than: timedelta, limit: int) -> Sequence[UUID]:
    """Finished jobs of a kind past their retention that nothing but withdrawn feedback points to any more, locked."""
    waiting = aliased(Job)
    begun_with = waiting.plan["init_image_key"].astext
    needed = select(begun_with).where(waiting.status.not_in(TERMINAL), begun_with.is_not(None))
    drawn_from = select(Artifact.job_id).where(Artifact.object_key.in_(needed))
    locked = session.scalars(
        select(Job.id)
        .where(
            Job.kind == kind,
            Job.status.in_(TERMINAL),
            Job.completed_at < func.now() - older_than,
            Job.id.not_in(drawn_from),
            *(~keeper for keeper in _keepers()),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    # Who began with a picture held its job, and may have committed between the first look and the lock.
    kept = set(session.scalars(drawn_from.where(Artifact.job_id.in_(locked)))) if locked else set()
    return [job_id for job_id in locked if job_id not in kept]


def hold(session: Session, *, job_id: UUID) -> bool:
    """Keep a job from being removed until the transaction ends; whether it is still there."""
    query = select(Job.id).where(Job.id == job_id).with_for_update(read=True, key_share=True)
    return session.scalar(query) is not None


def remove(session: Session, *, job_ids: Collection[UUID]) -> None:
    """Delete jobs, with all rows that are theirs."""
    session.execute(delete(Job).where(Job.id.in_(job_ids)), execution_options={"synchronize_session": False})
