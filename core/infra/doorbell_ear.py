"""Celery's ear for doorbells, which outlives what it cannot read.

Whoever can write to Redis can leave anything in a queue. Celery gives up on what it cannot read, and kombu puts a
message that nobody acknowledged back, so that one such entry would end worker after worker.
"""

from collections.abc import Callable
from queue import Empty
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from kombu.transport import redis

_log = structlog.get_logger()
# What reading raises; not what says that Redis is away. kombu takes a KeyError for the latter.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class DoorbellChannel(redis.Channel):
    """Drops an entry that is no message."""

    def _brpop_read(self, **options: Any) -> bool | None:
        try:
            return super()._brpop_read(**options)
        except _UNREADABLE as error:
            _log.warning("doorbell_dropped", error=repr(error))
            raise Empty from error


class DoorbellTransport(redis.Transport):
    """Redis, by way of such channels."""

    Channel = DoorbellChannel


class DoorbellConsumer(Consumer):
    """Acknowledges a message that no task can be made of, so that it never comes back."""

    def create_task_handler(self) -> Callable[[Any], None]:
        """What Celery calls for each message."""
        start_task = super().create_task_handler()

        def start_task_or_drop(message: Any) -> None:
            try:
                start_task(message)
            except _UNREADABLE as error:
                _log.warning("doorbell_dropped", error=repr(error))
                if not message.acknowledged:
                    message.ack()

        return start_task_or_drop
