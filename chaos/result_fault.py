"""Points around what a run ends with, a picture's or a training's: its files and its commit."""

import threading
from functools import wraps
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from chaos.point import Point, Points, meet
from core.infra.object_store import ObjectStore
from core.infra.repository import lease as leases


def around_puts(points: Points, *, before: Point, after: Point) -> None:
    """Of every file that is a result."""
    put = ObjectStore.put

    @wraps(put)
    def reached(*given: Any, **named: Any) -> None:
        points.reach(before)
        put(*given, **named)
        points.reach(after)

    ObjectStore.put = reached  # type: ignore[method-assign]


def around_commit(points: Points, *, before: Point, sent: Point, acknowledged: Point) -> None:
    """Of the transactions that end a run, and of no others."""
    end_run, here = leases.end_run, threading.local()

    @wraps(end_run)
    def end(*given: Any, **named: Any) -> Any:
        ended = end_run(*given, **named)
        here.ends_run = ended is not None
        return ended

    leases.end_run = end

    @event.listens_for(Engine, "commit")
    def commit(connection: Connection) -> None:
        if getattr(here, "ends_run", False):
            points.reach(before)
            if fate := points.take(sent):
                driver: Any = connection.connection.dbapi_connection
                driver.pgconn.send_query(b"COMMIT")
                driver.pgconn.flush()
                meet(fate)

    @event.listens_for(Session, "after_commit")
    def committed(_: Session) -> None:
        if getattr(here, "ends_run", False):
            here.ends_run = False
            points.reach(acknowledged)

    @event.listens_for(Session, "after_rollback")
    def rolled_back(_: Session) -> None:
        here.ends_run = False
