"""The engine, the session, the edge of a transaction, and what happens after its commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.domain.errors import Unavailable

_AFTER_COMMIT = "after_commit"


class Database:
    """Postgres. Safe to share between threads, not between processes."""

    def __init__(self, url: str, *, pool_size: int = 10, statement_timeout_seconds: float = 30.0) -> None:
        milliseconds = int(statement_timeout_seconds * 1000)
        self._engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 5,
                "application_name": "lorikeet",
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout=10000 "
                "-c idle_in_transaction_session_timeout=60000",
            },
        )
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: commits at the end of the block, rolls back on any exception.

        What was handed to `after_commit` runs once the commit is acknowledged, and never otherwise.

        Raises:
            Unavailable: Postgres cannot be reached, or broke off. Whether a commit under way took effect is then
                unknown; a caller that must know reads again.
        """
        try:
            with self._sessions() as session, session.begin():
                yield session
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise Unavailable("The database is not reachable right now.") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable("The database connection was lost.") from error
            raise
        for action in session.info.pop(_AFTER_COMMIT, []):
            action()

    def check(self) -> None:
        """Ask Postgres for a one.

        Raises:
            Unavailable: no answer.
        """
        with self.transaction() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Run `action` once the session's transaction is committed; forget it on rollback."""
    session.info.setdefault(_AFTER_COMMIT, []).append(action)
