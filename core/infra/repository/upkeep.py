"""Queries on the upkeep processes that get through their rounds. Every time is the database's own."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.infra.repository.presence import seen
from core.infra.table import UpkeepPresence


def say_alive(session: Session, *, upkeep_id: str) -> None:
    statement = insert(UpkeepPresence).values(id=upkeep_id)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()}))


def count_alive(session: Session, *, seen_within_seconds: float) -> int:
    query = select(func.count()).where(seen(UpkeepPresence, within_seconds=seen_within_seconds))
    return session.scalar(query) or 0
