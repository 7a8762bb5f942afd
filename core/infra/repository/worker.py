"""Queries on the workers that say they are alive. Every time is the database's own."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.domain.holding import Holding
from core.domain.job import WorkerKind
from core.infra.repository.presence import seen
from core.infra.table import WorkerPresence


def say_alive(session: Session, *, worker_id: str, kind: WorkerKind, slots: int, holds: Holding) -> None:
    now = {"slots": slots, "holds": holds.to_json()}
    statement = insert(WorkerPresence).values(id=worker_id, kind=kind, **now)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now(), **now}))


def live_slots(session: Session, *, kind: WorkerKind, seen_within_seconds: float) -> int:
    """Jobs that the live workers of a kind can hold at once."""
    query = select(func.coalesce(func.sum(WorkerPresence.slots), 0)).where(WorkerPresence.kind == kind)
    return int(session.scalar(query.where(seen(WorkerPresence, within_seconds=seen_within_seconds))) or 0)


def alive(session: Session, *, seen_within_seconds: float) -> Sequence[WorkerPresence]:
    """Live worker processes, the oldest first."""
    query = select(WorkerPresence).where(seen(WorkerPresence, within_seconds=seen_within_seconds))
    return session.scalars(query.order_by(WorkerPresence.started_at, WorkerPresence.id)).all()
