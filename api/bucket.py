"""How many requests a key may still send: a bucket of tokens for each, which fills up again over a minute."""

import time
from dataclasses import dataclass
from math import ceil, inf
from uuid import UUID

from core.domain.errors import TooManyRequests

_MAX_BUCKETS = 10_000
_CLOSED_SECONDS = 3600


@dataclass
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """Of one process; only its event loop uses them."""

    def __init__(self) -> None:
        self._buckets: dict[UUID, _Bucket] = {}

    def take(self, key_id: UUID, *, per_minute: float) -> None:
        """Count a request.

        Raises:
            TooManyRequests: the bucket is empty; says when there is a token again.
        """
        if per_minute == inf:
            return
        if per_minute <= 0:
            raise TooManyRequests("This key may send no requests.", retry_after_seconds=_CLOSED_SECONDS)
        now, room = time.monotonic(), max(1.0, per_minute)
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[key_id] = _Bucket(room, now)
        bucket.tokens = min(room, bucket.tokens + (now - bucket.at) * per_minute / 60)
        bucket.at = now
        if bucket.tokens < 1:
            seconds = ceil((1 - bucket.tokens) * 60 / per_minute)
            raise TooManyRequests(f"This key may send {per_minute:g} requests a minute.", retry_after_seconds=seconds)
        bucket.tokens -= 1
