"""The idle worker's own clock: says that it lives, and looks for work that no doorbell announced."""

import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps

from core.domain.errors import LorikeetError
from core.domain.job import KINDS_OF_WORKER, WorkerKind
from core.services import run as runs
from worker.runtime import Runtime

_log = structlog.get_logger()


class Poller:
    """Polls Postgres beside Celery's consumer, and works in the worker's own pool.

    `work` does one job and says whether there was one.
    """

    def __init__(self, runtime: Runtime, *, kind: WorkerKind, slots: int, work: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._kind = kind
        self._slots = slots
        self._work = work
        self._free = threading.Semaphore(slots)

    def run(self, pool: Any) -> None:
        """Poll until the process drains. `pool` is Celery's."""
        while True:
            try:
                self._look(pool)
            except LorikeetError as error:
                _log.warning("poll_failed", error=error.message)
            except Exception:  # noqa: BLE001  # whatever it was: a worker that says nothing is taken for gone
                _log.exception("poll_failed_unexpectedly")
            if self._runtime.draining.wait(self._runtime.settings.poll_seconds):
                return

    def _look(self, pool: Any) -> None:
        me, holds = self._runtime.worker_id, self._runtime.holding()
        with self._runtime.database.transaction() as session:
            runs.say_alive(session, worker_id=me, kind=self._kind, slots=self._slots, holds=holds)
            has_work = runs.has_work(session, kinds=KINDS_OF_WORKER[self._kind])
        if has_work and not self._runtime.draining.is_set() and self._free.acquire(blocking=False):
            try:
                pool.apply_async(self._work_off)
            except BaseException:
                self._free.release()
                raise

    def _work_off(self) -> None:
        try:
            while self._work():
                pass
        except LorikeetError as error:
            _log.warning("poll_failed", error=error.message)
        except Exception:  # noqa: BLE001  # nobody asks the pool what became of this
            _log.exception("work_failed_unexpectedly")
        finally:
            self._free.release()


def make_step(poller: Poller, runtime: Runtime) -> type:
    """The poller as a step of Celery's worker.

    It starts before the consumer connects, so a worker that cannot reach Redis at all still works jobs off.
    """

    class PollerStep(bootsteps.StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            threading.Thread(target=poller.run, args=(worker.pool,), name="poller", daemon=True).start()

        def stop(self, worker: Any) -> None:  # noqa: ARG002  # Celery's signature
            runtime.draining.set()

    return PollerStep
