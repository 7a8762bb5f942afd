"""Queries on the upkeep processes that get through their rounds. Every time is the database's own."""

from datetime import timedelta

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.infra.table import UpkeepPresence


def say_alive(session: Session, *, upkeep_id: str) -> None:
    statement = insert(UpkeepPresence).values(id=upkeep_id)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()}))


def say_gone(session: Session, *, upkeep_id: str) -> None:
    session.execute(delete(UpkeepPresence).where(UpkeepPresence.id == upkeep_id))


def count_alive(session: Session, *, seen_within_seconds: float) -> int:
    since = func.now() - timedelta(seconds=seen_within_seconds)
    return session.scalar(select(func.count()).where(UpkeepPresence.seen_at > since)) or 0


def lives_on(session: Session, *, host: str, seen_within_seconds: float) -> bool:
    """Whether an upkeep process of that host was seen lately. Its id begins with its host."""
    since = func.now() - timedelta(seconds=seen_within_seconds)
    is_here = UpkeepPresence.id.startswith(f"{host}:", autoescape=True)
    return bool(session.scalar(select(exists().where(is_here, UpkeepPresence.seen_at > since))))


def forget_gone(session: Session, *, unseen_for_seconds: float) -> None:
    since = func.now() - timedelta(seconds=unseen_for_seconds)
    session.execute(delete(UpkeepPresence).where(UpkeepPresence.seen_at < since))
