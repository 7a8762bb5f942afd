"""Queries on the workers that say they are alive. Every time is the database's own."""

from datetime import timedelta

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.domain.job import WorkerKind
from core.infra.table import WorkerPresence


def say_alive(session: Session, *, worker_id: str, kind: WorkerKind, slots: int) -> None:
    statement = insert(WorkerPresence).values(id=worker_id, kind=kind, slots=slots)
    session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now(), "slots": slots})
    )


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


def count(session: Session, *, seen_within_seconds: float) -> dict[WorkerKind, int]:
    """Live worker processes by kind; a kind without any is left out."""
    since = func.now() - timedelta(seconds=seen_within_seconds)
    query = select(WorkerPresence.kind, func.count()).where(WorkerPresence.seen_at > since)
    rows = session.execute(query.group_by(WorkerPresence.kind))
    return {WorkerKind(kind): count for kind, count in rows}


def forget_gone(session: Session, *, unseen_for_seconds: float) -> None:
    since = func.now() - timedelta(seconds=unseen_for_seconds)
    session.execute(delete(WorkerPresence).where(WorkerPresence.seen_at < since))
