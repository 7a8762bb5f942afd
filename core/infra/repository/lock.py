"""Advisory locks: one at a time may do this to that, until the transaction ends."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def take(session: Session, *parts: object) -> None:
    """Wait for, and hold until the end of the transaction, the lock that these parts name."""
    name = "\n".join(str(part) for part in parts)
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def try_take(session: Session, *parts: object) -> bool:
    """Take the lock that these parts name if nobody holds it; whether it was taken."""
    name = "\n".join(str(part) for part in parts)
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(name, 0)))))
