"""Rings a doorbell, by task name and job id only, after the commit; and says which jobs have ended."""

import base64
import json
import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from core.domain.job import JobKind
from core.domain.message import ENDED_CHANNEL, QUEUE_NAME, TASK_NAME
from core.infra.settings import Settings

_log = structlog.get_logger()
_PATIENCE_SECONDS = 2.0
_SILENCE_SECONDS = 2.0
_NO_QUEUE = "lorikeet.none"
"""A key that is never there: to push to it only if it is changes nothing, and is refused where a doorbell would be."""


class TaskQueue:
    """Speaks of jobs whose rows are committed. Never raises: a lost message only means that something happens later.

    Connects when first used. Safe to share between threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1),  # once: a connection that Redis closed meanwhile is opened anew
        )
        self._silent_until = 0.0

    def ring(self, kind: JobKind, job_id: UUID) -> bool:
        """Send one doorbell; whether Redis took it."""
        doorbell = encode_doorbell(kind, job_id)
        return self._send(lambda: self._redis.lpush(QUEUE_NAME[kind], doorbell), lost="doorbell_lost", job_id=job_id)

    def unheard(self, kinds: Iterable[JobKind]) -> int | None:
        """Doorbells of these kinds that no worker has taken yet; None where Redis is away."""
        try:
            return sum(int(self._redis.llen(QUEUE_NAME[kind])) for kind in kinds)
        except (RedisError, OSError):
            return None

    def say_ended(self, job_id: UUID) -> bool:
        """Tell whoever waits for a job that its run is over; whether Redis took it."""
        return self._send(lambda: self._redis.publish(ENDED_CHANNEL, str(job_id)), lost="end_not_said", job_id=job_id)

    def _send(self, send: Callable[[], object], *, lost: str, job_id: UUID) -> bool:
        if time.monotonic() < self._silent_until:
            return False
        try:
            send()
        except (RedisError, OSError) as error:
            # Redis is away: workers poll by themselves, and nobody should wait for a time-out at every request.
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            _log.warning(lost, job_id=str(job_id), error=str(error))
            return False
        return True

    def is_reachable(self) -> bool:
        """Whether Redis answers, and takes doorbells: with a full disk or as a replica it refuses them."""
        try:
            self._redis.lpushx(_NO_QUEUE, "")
        except (RedisError, OSError):
            return False
        return True

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()


def encode_doorbell(kind: JobKind, job_id: UUID) -> str:
    """A Celery message as kombu's Redis transport keeps it in a queue's list.

    Written out because Celery's own producer takes more CPU time than all the rest of a submit together, and would
    bring itself into every API process. See https://docs.celeryq.dev/en/stable/internals/protocol.html, version 2.
    """
    message_id = str(uuid4())
    body: list[Any] = [[], {"job_id": str(job_id)}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": TASK_NAME[kind],
                "id": message_id,
                "root_id": message_id,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "eta": None,
                "expires": None,
                "timelimit": [None, None],
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": message_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE_NAME[kind]},
                "delivery_tag": message_id,
                "priority": 0,
                "body_encoding": "base64",
            },
        }
    )
