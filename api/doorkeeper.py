"""Whose key is this? Asks the database, and remembers the answer for a few seconds."""

import time
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from core.domain.errors import Unauthorized
from core.infra.database import Database
from core.services.tenant import authenticate

REMEMBERED_SECONDS = 5.0
"""A key that is revoked opens doors for so long at most. It saves every request a query."""

_MAX_REMEMBERED = 10_000
_MAX_KEY_LENGTH = 200


class Doorkeeper:
    """Knows tenants by their keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, tuple[UUID, float]] = {}

    async def admit(self, key: str | None) -> UUID:
        """The tenant that the key belongs to.

        Raises:
            Unauthorized: no key, an unknown one, or a revoked one.
            Unavailable: the database is away.
        """
        if not key or len(key) > _MAX_KEY_LENGTH:
            raise Unauthorized
        known = self._remembered.get(key)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        tenant_id = await run_in_threadpool(self._ask, key)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = tenant_id, time.monotonic() + REMEMBERED_SECONDS
        return tenant_id

    def _ask(self, key: str) -> UUID:
        with self._database.transaction() as session:
            return authenticate(session, key).id
