"""What anybody may ask without a key: looked up once for all who ask, and remembered for a moment."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

Seen = TypeVar("Seen")


class Glance(Generic[Seen]):
    """For one event loop. However many ask at once, one thread looks, and they all wait for what it sees."""

    def __init__(self, look: Callable[[], Seen], *, seconds: float) -> None:
        self._look, self._seconds = look, seconds
        self._lock = asyncio.Lock()
        self._seen: Seen
        self._good_until = -math.inf

    async def take(self) -> Seen:
        """What was seen last, or, if that is older than so many seconds, what there is to see now."""
        async with self._lock:
            if time.monotonic() >= self._good_until:
                self._seen = await run_in_threadpool(self._look)
                self._good_until = time.monotonic() + self._seconds
            return self._seen
