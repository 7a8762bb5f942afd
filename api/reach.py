"""Which of the systems behind the API answer."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.task_queue import TaskQueue

_log = structlog.get_logger()


@dataclass(frozen=True)
class Reach:
    """Whether each answers."""

    database: bool
    store: bool
    queue: bool


def reach(database: Database, store: ObjectStore, queue: TaskQueue) -> Reach:
    """Ask each of them."""
    return Reach(
        database=_answers("database", database.check),
        store=_answers("store", store.check),
        queue=queue.is_reachable(),
    )


def _answers(name: str, check: Callable[[], None]) -> bool:
    try:
        check()
    except Unavailable as error:
        _log.warning("not_ready", system=name, error=error.message)
        return False
    return True
