"""Ends a worker whose engine hangs: no thread can be made to leave a call that never returns, but a process can."""

import os
import threading
import time
from collections.abc import Callable

import structlog

from core.domain.errors import LorikeetError
from core.services import run as runs
from worker.runtime import Runtime

_log = structlog.get_logger()
_GLANCE_SECONDS = 1.0


def guard(runtime: Runtime, *, end: Callable[[], object] = lambda: os._exit(os.EX_SOFTWARE)) -> None:
    """Look on from now on, in a thread; where one call of the engine lasts for `stall_seconds`, `end` the process.

    Whoever keeps workers running starts it anew; its jobs run again elsewhere.
    """
    threading.Thread(target=_watch, args=(runtime, end), name="watchdog", daemon=True).start()


def _watch(runtime: Runtime, end: Callable[[], object]) -> None:
    limit = runtime.settings.stall_seconds
    while (seconds := runtime.engine_busy_seconds()) <= limit:
        time.sleep(min(_GLANCE_SECONDS, limit / 4))
    _log.error("engine_hangs", seconds=round(seconds))
    try:
        with runtime.database.transaction() as session:
            runs.declare_dead(session, worker_id=runtime.worker_id)
    except LorikeetError as error:  # their leases run out all the same
        _log.warning("jobs_not_given_up", error=error.message)
    finally:
        end()
