"""Bodies on their way in: how large one may be, how slow, and how much of the room for all of them is one tenant's."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from core.domain.errors import TooMuchAtOnce, Unavailable
from core.infra.settings import Settings

_BEGINNING_BYTES = 2**20


class Bodies:
    """All that one process reads at once. Only its event loop uses it.

    The beginnings of bodies have a room of their own: large ones that are under way keep no small one out.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_bytes = settings.max_body_bytes
        self.seconds, self.min_bytes_per_second = settings.body_seconds, settings.min_body_bytes_per_second
        beginnings = max(settings.max_bodies_bytes // 4, 2 * _BEGINNING_BYTES)
        self.beginnings = Room(beginnings, of_one=beginnings // 2)
        self.rests = Room(settings.max_bodies_bytes, of_one=max(settings.max_bodies_bytes // 2, self.max_bytes))

    @property
    def too_large(self) -> str:
        """What is said of a body that is."""
        return f"A body may have at most {self.max_bytes} bytes."


class Room:
    """Bytes that bodies share, of which one tenant may take a part; those who show no key are one tenant here."""

    def __init__(self, max_bytes: int, *, of_one: int) -> None:
        self._max_bytes, self._of_one = max_bytes, min(of_one, max_bytes)
        self._taken = Counter[UUID | None]()
        self._total = 0

    def take(self, owner: UUID | None, size: int) -> None:
        """Let bytes in.

        Raises:
            TooMuchAtOnce: the tenant has no room left for them.
            Unavailable: all have none, or those without a key.
        """
        if size and self._taken[owner] + size > self._of_one:
            if owner is None:
                raise Unavailable(_put_off(self._of_one, "without a key"))
            raise TooMuchAtOnce(_put_off(self._of_one, "of one tenant"))
        if size and self._total + size > self._max_bytes:
            raise Unavailable(_put_off(self._max_bytes, "of all"))
        self._taken[owner] += size
        self._total += size

    def give_back(self, owner: UUID | None, size: int) -> None:
        """Make room again."""
        self._total -= size
        self._taken[owner] -= size
        if not self._taken[owner]:
            del self._taken[owner]


def _put_off(max_bytes: int, whose: str) -> str:
    return f"Of bodies {whose} at most {max_bytes} bytes are read at once. Send this one again later."


class Patience:
    """How much longer a body may keep us waiting: in so many seconds of that it must bring so many bytes, or its end.

    Time in which nobody asks for more of it is not its sender's.
    """

    def __init__(self, *, seconds: float, min_bytes: float) -> None:
        self._seconds, self._min_bytes = seconds, min_bytes
        self.left_seconds, self._missing = seconds, min_bytes

    def note(self, *, waited: float, received: int) -> None:
        """Some of it came, after so many seconds."""
        self.left_seconds -= waited
        self._missing -= received
        if self._missing <= 0:
            self.left_seconds, self._missing = self._seconds, self._min_bytes


class Body:
    """One of them, as it is received, until the request `is_answered`."""

    def __init__(self, receive: Receive, scope: Scope, bodies: Bodies, *, is_answered: Callable[[], bool]) -> None:
        self._receive, self._scope, self._bodies = receive, scope, bodies
        self._patience = Patience(seconds=bodies.seconds, min_bytes=bodies.seconds * bodies.min_bytes_per_second)
        self._owner: UUID | None = None
        self._beginning = self._rest = 0
        self._is_whole = False
        self._is_answered = is_answered

    async def receive(self) -> Message:
        """More of it, as long as it comes on and there is room for it.

        Raises:
            HTTPException: 408, it does not come on; 413, it is too large.
            TooMuchAtOnce: its tenant has no room left.
            Unavailable: there is none left at all.
        """
        if self._is_whole or self._is_answered():  # who asks wants to know when the client goes away
            return await self._receive()
        message = await self._next()
        self._is_whole = not message.get("more_body", False)
        self._take(len(message.get("body", b"")))
        return message

    def give_back(self) -> None:
        """Its room is free again."""
        self._bodies.beginnings.give_back(self._owner, self._beginning)
        self._bodies.rests.give_back(self._owner, self._rest)
        self._beginning = self._rest = 0

    async def _next(self) -> Message:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._patience.left_seconds):
                message = await self._receive()
        except TimeoutError:
            if self._is_answered():
                return await self._receive()
            raise HTTPException(408, self._too_slow, headers={"Connection": "close"}) from None
        self._patience.note(waited=time.monotonic() - started, received=len(message.get("body", b"")))
        return message

    def _take(self, size: int) -> None:
        if self._beginning + self._rest == 0:
            self._owner = self._scope.get("state", {}).get("tenant_id")
        if self._beginning + self._rest + size > self._bodies.max_bytes:
            raise HTTPException(413, self._bodies.too_large)
        beginning = min(size, _BEGINNING_BYTES - self._beginning)
        self._bodies.beginnings.take(self._owner, beginning)
        self._beginning += beginning
        self._bodies.rests.take(self._owner, size - beginning)
        self._rest += size - beginning

    @property
    def _too_slow(self) -> str:
        seconds, rate = self._bodies.seconds, self._bodies.min_bytes_per_second
        return f"A body must come at {rate} bytes a second or faster; this one did not for {seconds:g} seconds."
