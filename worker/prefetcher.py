"""Fetches the adapters of jobs that wait in line, while others are drawn: whose turn comes need not wait for them.

A doorbell cannot say it: a worker whose slots are taken answers none. So it looks at the line.
"""

import threading

import structlog

from core.domain.errors import LorikeetError
from core.domain.generation import GenerationPlan
from core.domain.job import JobKind
from core.services import run as runs
from worker.runtime import Runtime

_log = structlog.get_logger()
_LOOK_SECONDS = 0.5


class Prefetcher:
    """Beside the worker's jobs. What it cannot fetch is left to the job, which says why."""

    def __init__(self, runtime: Runtime, *, jobs_ahead: int) -> None:
        self._runtime, self._jobs_ahead = runtime, jobs_ahead
        self._seen: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Look from now on, in a thread, until the process drains."""
        threading.Thread(target=self._run, name="prefetcher", daemon=True).start()

    def _run(self) -> None:
        while not self._runtime.draining.wait(_LOOK_SECONDS):
            try:
                self.look()
            except LorikeetError as error:
                _log.warning("prefetch_failed", error=error.message)
            except Exception:  # noqa: BLE001  # a full disk, a plan of a later version: it goes on for others
                _log.exception("prefetch_failed_unexpectedly")

    def look(self) -> None:
        """Fetch what the jobs that are next in line need and those at the last look did not.

        Raises:
            Unavailable: the database is away.
        """
        with self._runtime.database.transaction() as session:
            line = runs.next_in_line(session, kind=JobKind.GENERATION, limit=self._jobs_ahead)
        needed = {
            (str(model.id), adapter.sha256): (model, adapter)
            for model, plan in line
            for adapter in GenerationPlan.model_validate(plan).adapters
        }
        asked, self._seen = self._seen, set(needed)
        for model, adapter in [each for key, each in needed.items() if key not in asked]:
            try:
                self._runtime.engine.prefetch(model, [adapter])
            except LorikeetError as error:
                _log.info("not_prefetched", adapter=adapter.id, error=error.message)
