"""Hears on Redis which jobs have ended."""

import asyncio
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from core.domain.message import ENDED_CHANNEL
from core.infra.settings import Settings

_log = structlog.get_logger()
_PATIENCE_SECONDS = 2.0


class JobEar:
    """For one event loop. Never raises: what is not heard has to be looked up, as what was said before it listened."""

    def __init__(self, settings: Settings) -> None:
        self._redis = Redis.from_url(settings.redis_url, socket_connect_timeout=_PATIENCE_SECONDS)
        self._line: PubSub | None = None

    async def listen(self) -> None:
        """Hear what is said from now on."""
        if self._line is not None:
            return
        line = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await line.subscribe(ENDED_CHANNEL)
            await line.get_message(timeout=_PATIENCE_SECONDS)  # that it is so
        except (RedisError, OSError) as error:
            _log.warning("job_ear_deaf", error=str(error))
            await self._hang_up(line)
        else:
            self._line = line

    async def hear(self, *, seconds: float) -> UUID | None:
        """The next job that is said to have ended; None if none is within so many seconds."""
        if self._line is None:
            await asyncio.sleep(seconds)
            await self.listen()
            return None
        try:
            said = await self._line.get_message(timeout=seconds)
            return UUID(said["data"].decode()) if said else None
        except (RedisError, OSError, ValueError) as error:
            _log.warning("job_ear_deaf", error=str(error))
            await self.close()
            return None

    async def close(self) -> None:
        """Listen no more."""
        line, self._line = self._line, None
        if line is not None:
            await self._hang_up(line)

    async def _hang_up(self, line: PubSub) -> None:
        await line.aclose()  # type: ignore[no-untyped-call]
        await self._redis.aclose()  # the line's connection, which it had given back
