"""Whose key is this? Asks the database, and remembers the answer for a few seconds."""

import time
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from api.bucket import Buckets
from core.domain.api_key import is_formed
from core.domain.errors import Unauthorized
from core.domain.limit import Limits
from core.infra.database import Database
from core.services.api_key import Caller, authenticate

REMEMBERED_SECONDS = 5.0
"""A key that is revoked, or expires, opens doors for so long at most. It saves every request a query.

A new key opens them at once: nobody can have come with it before.
"""

_MAX_REMEMBERED = 10_000
Found = TypeVar("Found")


class Doorkeeper:
    """Knows callers by their keys."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._buckets = Buckets()
        self._callers, self._strangers = _Memory[Caller](), _Memory[bool]()

    async def admit(self, key: str | None) -> Caller:
        """Whom the key belongs to.

        Raises:
            Unauthorized: no key, an unknown one, or one that is revoked or expired.
            TooManyRequests: more than its tenant's keys may send.
            Unavailable: the database is away.
        """
        if not key or not is_formed(key):
            raise Unauthorized
        caller = await self._known(key)
        self._buckets.take(caller.key_id, per_minute=caller.requests_per_minute)
        return caller

    async def _known(self, key: str) -> Caller:
        if caller := self._callers.recall(key):
            return caller
        if self._strangers.recall(key):
            raise Unauthorized
        try:
            caller = await run_in_threadpool(self._ask, key)
        except Unauthorized:
            self._strangers.keep(key, True)
            raise
        self._callers.keep(key, caller)
        return caller

    def _ask(self, key: str) -> Caller:
        with self._database.transaction() as session:
            return authenticate(session, key, limits=self._limits)


class _Memory(Generic[Found]):
    """What was found of each key lately. Callers and strangers have one each, so that these cannot push out those."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Found, float]] = {}

    def recall(self, key: str) -> Found | None:
        found, until = self._found.get(key, (None, 0.0))
        return found if until > time.monotonic() else None

    def keep(self, key: str, found: Found) -> None:
        if len(self._found) >= _MAX_REMEMBERED:
            self._found.clear()
        self._found[key] = found, time.monotonic() + REMEMBERED_SECONDS
