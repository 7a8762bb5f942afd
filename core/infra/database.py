"""The engine, the session, the edge of a transaction, and what happens after its commit."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ExceptionContext, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from core.domain.errors import Unavailable

_log = structlog.get_logger()
_AFTER_COMMIT = "after_commit"
_USED_AT = "used_at"
_REST_SECONDS = 1.0
_NOTICES_A_VANISHED_PEER = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_AS_TENANT = "SELECT set_config('lorikeet.tenant_id', %s, true), set_config('role', 'lorikeet_tenant', true)"


class Database:
    """Postgres. Safe to share between threads, not between processes."""

    def __init__(self, url: str, *, pool_size: int = 10, statement_timeout_seconds: float = 30.0) -> None:
        milliseconds = int(statement_timeout_seconds * 1000)
        self._engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            hide_parameters=True,  # an error is logged, and prompts are not
            connect_args={
                "connect_timeout": 5,
                "application_name": "lorikeet",
                **_NOTICES_A_VANISHED_PEER,
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout=10000 "
                "-c idle_in_transaction_session_timeout=60000",
            },
        )
        event.listen(self._engine, "checkout", self._ping_after_a_rest)
        event.listen(self._engine, "checkin", _note_use)
        event.listen(self._engine, "checkin", self._close_late)
        event.listen(self._engine, "handle_error", _forget_the_row)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._is_closed = False

    @contextmanager
    def transaction(self, tenant_id: UUID | None = None) -> Iterator[Session]:
        """One transaction: commits at the end of the block, rolls back on any exception.

        With a tenant, Postgres itself lets it see and change that tenant's rows alone, whatever is asked of it; without
        one it is the system's own. What was handed to `after_commit` runs once the commit is acknowledged, and never
        otherwise.

        Raises:
            Unavailable: Postgres cannot be reached, or broke off. Whether a commit under way took effect is then
                unknown; a caller that must know reads again.
        """
        try:
            with self._sessions() as session, session.begin():
                if tenant_id is not None:
                    session.connection().exec_driver_sql(_AS_TENANT, (str(tenant_id),))
                yield session
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            _log.warning("database_failed", error=str(getattr(error, "orig", error)))
            raise Unavailable("The database is not reachable right now.") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                _log.warning("database_failed", error=str(error.orig))
                raise Unavailable("The database connection was lost.") from error
            raise
        for action in session.info.pop(_AFTER_COMMIT, []):
            action()

    def _ping_after_a_rest(self, connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        # A ping at every checkout would be a third of a short transaction; a server that went away is gone for longer.
        # A fresh connection needs none, and SQLAlchemy knows no way on from a second one that fails.
        if time.monotonic() - record.info.get(_USED_AT, math.inf) > _REST_SECONDS:
            try:
                self._engine.dialect.do_ping(connection)
            except self._engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    def check(self) -> None:
        """Ask Postgres for a one.

        Raises:
            Unavailable: no answer.
        """
        with self.transaction() as session:
            session.execute(text("SELECT 1"))

    def _close_late(self, _: object, record: ConnectionPoolEntry) -> None:
        if self._is_closed:
            record.close()

    def close(self) -> None:
        """Give every connection back: those in use, such as a thread's last heartbeat, when their transaction ends."""
        self._is_closed = True
        self._engine.dispose()


def _note_use(_: object, record: ConnectionPoolEntry) -> None:
    record.info[_USED_AT] = time.monotonic()


def _forget_the_row(context: ExceptionContext) -> None:
    """Take out of an error the row that Postgres shows with it: errors are logged, and prompts are not."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\nDETAIL:")[0], *error.args[1:])


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Run `action` once the session's transaction is committed; forget it on rollback."""
    session.info.setdefault(_AFTER_COMMIT, []).append(action)
