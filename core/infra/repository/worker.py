"""Queries on the workers that say they are alive. Every time is the database's own."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.domain.holding import Holding
from core.domain.job import WorkerKind
from core.infra.table import WorkerPresence


def say_alive(session: Session, *, worker_id: str, kind: WorkerKind, slots: int, holds: Holding) -> None:
    now = {"slots": slots, "holds": holds.to_json()}
    statement = insert(WorkerPresence).values(id=worker_id, kind=kind, **now)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now(), **now}))


def say_gone(session: Session, *, worker_id: str) -> None:
    session.execute(delete(WorkerPresence).where(WorkerPresence.id == worker_id))


def live_slots(session: Session, *, kind: WorkerKind, seen_within_seconds: float) -> int:
    """Jobs that the live workers of a kind can hold at once."""
    since = func.now() - timedelta(seconds=seen_within_seconds)
    query = select(func.coalesce(func.sum(WorkerPresence.slots), 0))
    return int(session.scalar(query.where(WorkerPresence.kind == kind, WorkerPresence.seen_at > since)) or 0)


def lives_on(session: Session, *, host: str, seen_within_seconds: float) -> bool:
    """Whether a worker process of that host was seen lately. A worker's id begins with its host."""
    since = func.now() - timedelta(seconds=seen_within_seconds)
    is_here = WorkerPresence.id.startswith(f"{host}:", autoescape=True)
    return bool(session.scalar(select(exists().where(is_here, WorkerPresence.seen_at > since))))


def alive(session: Session, *, seen_within_seconds: float) -> Sequence[WorkerPresence]:
    """Live worker processes, the oldest first."""
    since = func.now() - timedelta(seconds=seen_within_seconds)
    query = select(WorkerPresence).where(WorkerPresence.seen_at > since)
    return session.scalars(query.order_by(WorkerPresence.started_at, WorkerPresence.id)).all()


def forget_gone(session: Session, *, unseen_for_seconds: float) -> None:
    since = func.now() - timedelta(seconds=unseen_for_seconds)
    session.execute(delete(WorkerPresence).where(WorkerPresence.seen_at < since))
