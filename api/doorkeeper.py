"""Whose key is this? Asks the database, and remembers the answer for a few seconds."""

import time

from starlette.concurrency import run_in_threadpool

from api.bucket import Buckets
from core.domain.api_key import is_formed
from core.domain.errors import Unauthorized
from core.domain.limit import Limits
from core.infra.database import Database
from core.services.api_key import Caller, authenticate

REMEMBERED_SECONDS = 5.0
"""A key that is revoked, or expires, opens doors for so long at most. It saves every request a query."""

_MAX_REMEMBERED = 10_000


class Doorkeeper:
    """Knows callers by their keys."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._buckets = Buckets()
        self._remembered: dict[str, tuple[Caller, float]] = {}

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
        caller, until = self._remembered.get(key, (None, 0.0))
        if caller is not None and until > time.monotonic():
            return caller
        caller = await run_in_threadpool(self._ask, key)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = caller, time.monotonic() + REMEMBERED_SECONDS
        return caller

    def _ask(self, key: str) -> Caller:
        with self._database.transaction() as session:
            return authenticate(session, key, limits=self._limits)
