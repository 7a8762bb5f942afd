"""Threads for what is done to files that clients send. It takes long, and so has no share in those of all requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread

from core.domain.errors import LorikeetError, TooMuchAtOnce, Unavailable

_PATIENCE_SECONDS = 30
Given = ParamSpec("Given")
Result = TypeVar("Result")


class Workshop:
    """So many threads, and for one owner of files a part of them. For one event loop; who waits holds no thread."""

    def __init__(self, *, threads: int, of_one: int, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._threads = CapacityLimiter(threads)
        self._places = asyncio.Semaphore(threads)
        self._num_threads = threads
        self._of_one, self._patience_seconds = of_one, patience_seconds
        self._own: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    async def do(
        self, owner: UUID, work: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """What `work` returns, done in a thread when it is its turn.

        Raises:
            TooMuchAtOnce: what is done for this owner leaves no thread for long.
            Unavailable: what is done for all leaves none.
        """
        own = self._own.setdefault(owner, asyncio.Semaphore(self._of_one))
        of_one = TooMuchAtOnce(self._busy(self._of_one, "one tenant"), retry_after_seconds=_PATIENCE_SECONDS)
        async with self._turn(own, of_one):
            of_all = Unavailable(self._busy(self._num_threads, "all"), retry_after_seconds=_PATIENCE_SECONDS)
            async with self._turn(self._places, of_all):
                return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._threads)

    def _busy(self, most: int, whose: str) -> str:
        return (
            f"Of files of {whose} at most {most} are looked at at once, and none was done with in "
            f"{self._patience_seconds:g} seconds. Send this one again later."
        )

    @asynccontextmanager
    async def _turn(self, places: asyncio.Semaphore, refusal: LorikeetError) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await places.acquire()
        except TimeoutError:
            raise refusal from None
        try:
            yield
        finally:
            places.release()
