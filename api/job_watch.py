"""Wait for jobs to end: one query for all who wait, however many they are."""

import asyncio
import time
from collections.abc import Collection
from uuid import UUID

import structlog
from starlette.concurrency import run_in_threadpool

from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.job_ear import JobEar
from core.services import job as jobs

_GLANCE_SECONDS = 0.2
_log = structlog.get_logger()


class JobWatch:
    """Watches the jobs that somebody waits for. A waiter holds neither a thread nor a connection.

    It hears of most ends as they happen; those that are not announced it sees with its next glance.
    """

    def __init__(self, database: Database, ear: JobEar) -> None:
        self._database, self._ear = database, ear
        self._waiting: dict[UUID, list[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._released = False

    async def wait(self, job_id: UUID, *, seconds: float) -> None:
        """Return when the job has ended, when the time is over, or when the process ends."""
        if self._released:
            return
        ended = asyncio.Event()
        self._waiting.setdefault(job_id, []).append(ended)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            waiting = self._waiting.get(job_id, [])
            if ended in waiting:
                waiting.remove(ended)
            if not waiting:
                self._waiting.pop(job_id, None)

    def release(self) -> None:
        """Let everybody go who waits, now and later: the process ends. A signal handler may call it."""
        self._released = True

    async def _watch(self) -> None:
        while self._waiting and not self._released:
            try:
                await self._listen()
            finally:
                await self._ear.close()
        if self._released:
            self._wake(set(self._waiting))

    async def _listen(self) -> None:
        """While there is somebody."""
        await self._ear.listen()
        glance_at = 0.0
        while self._waiting and not self._released:
            if time.monotonic() >= glance_at:
                await self._look(self._waiting)
                glance_at = time.monotonic() + _GLANCE_SECONDS
            heard = await self._ear.hear(seconds=_GLANCE_SECONDS)
            if heard in self._waiting:
                await self._look([heard])

    async def _look(self, job_ids: Collection[UUID]) -> None:
        try:
            self._wake(await run_in_threadpool(self._ended, list(job_ids)))
        except Unavailable as error:
            _log.warning("watch_failed", error=error.message)

    def _ended(self, job_ids: list[UUID]) -> set[UUID]:
        with self._database.transaction() as session:
            return jobs.ended_among(session, job_ids=job_ids)

    def _wake(self, job_ids: set[UUID]) -> None:
        for job_id in job_ids:
            for ended in self._waiting.get(job_id, []):
                ended.set()
