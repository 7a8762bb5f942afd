"""What the tables of processes that say they are alive have in common. Every time is the database's own."""

from datetime import timedelta

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.orm import Session

from core.infra.table import UpkeepPresence, WorkerPresence

Presence = type[WorkerPresence] | type[UpkeepPresence]


def seen(of: Presence, *, within_seconds: float) -> ColumnElement[bool]:
    """The condition that it was seen lately."""
    return of.seen_at > func.now() - timedelta(seconds=within_seconds)


def say_gone(session: Session, of: Presence, *, process_id: str) -> None:
    session.execute(delete(of).where(of.id == process_id))


def lives_on(session: Session, of: Presence, *, host: str, seen_within_seconds: float) -> bool:
    """Whether a process of that host was seen lately. Its id begins with its host."""
    is_here = of.id.startswith(f"{host}:", autoescape=True)
    return bool(session.scalar(select(exists().where(is_here, seen(of, within_seconds=seen_within_seconds)))))


def forget_gone(session: Session, of: Presence, *, unseen_for_seconds: float) -> None:
    session.execute(delete(of).where(of.seen_at < func.now() - timedelta(seconds=unseen_for_seconds)))
