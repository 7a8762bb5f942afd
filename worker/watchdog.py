"""Ends a process that hangs: no thread can be made to leave a call that never returns, but a process can."""

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


def _exit() -> None:
    os._exit(os.EX_SOFTWARE)


def guard_engine(runtime: Runtime, *, end: Callable[[], object] = _exit) -> None:
    """Look on from now on, in a thread; where one call of the engine lasts for `stall_seconds`, `end` the process.

    Whoever keeps workers running starts it anew; its jobs run again elsewhere.
    """

    def give_up(seconds: float) -> None:
        _log.error("engine_hangs", seconds=round(seconds))
        try:
            with runtime.database.transaction() as session:
                runs.declare_dead(session, worker_id=runtime.worker_id)
        except LorikeetError as error:  # their leases run out all the same
            _log.warning("jobs_not_given_up", error=error.message)
        finally:
            end()

    _watch(runtime.engine_busy_seconds, runtime.settings.stall_seconds, give_up)


def guard_run(runtime: Runtime, *, end: Callable[[], object] = _exit) -> None:
    """Look on from now on, in a thread; `end` a process that is there for one run and goes on for a lease without one.

    It waits for a claim, or ends, and something never answers; or its run lost its claim, and never came to the step at
    which it would have stopped by itself. Either way it holds a device for nothing, and nothing follows before it ends.
    """

    def give_up(seconds: float) -> None:
        _log.error("run_hangs", seconds=round(seconds))
        end()

    _watch(runtime.heart.idle_seconds, runtime.settings.lease_seconds, give_up)


def _watch(seconds: Callable[[], float], limit: float, give_up: Callable[[float], None]) -> None:
    def look() -> None:
        while (passed := seconds()) <= limit:
            time.sleep(min(_GLANCE_SECONDS, limit / 4))
        give_up(passed)

    threading.Thread(target=look, name="watchdog", daemon=True).start()
