"""Celery's ear for doorbells, which outlives what it cannot read, and a Redis that answers but writes nothing.

Whoever can write to Redis can leave anything in a queue. Celery gives up on what it cannot read, and kombu puts a
message that nobody acknowledged back, so that one such entry would end worker after worker.

To take a doorbell is to write. A Redis whose disk is full, that became a replica, or that has too few of them refuses
it, and Celery gives up on that as well. Here it is an outage like others: the worker polls meanwhile.
"""

import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from kombu.transport import redis
from redis.exceptions import ResponseError

_log = structlog.get_logger()
# What reading raises; not what says that Redis is away. kombu takes a KeyError for the latter.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_SILENCE_SECONDS = 2.0


class DoorbellChannel(redis.Channel):
    """Drops an entry that is no message, and asks again after a while where Redis refuses to give any."""

    def _brpop_read(self, **options: Any) -> bool | None:
        try:
            return super()._brpop_read(**options)
        except ResponseError as error:
            _log.warning("doorbells_refused", error=str(error))
            time.sleep(_SILENCE_SECONDS)  # the loop that this holds up has nothing but doorbells to wait for
            raise Empty from error
        except _UNREADABLE as error:
            _log.warning("doorbell_dropped", error=repr(error))
            raise Empty from error

    def _queue_bind(self, *names: Any) -> None:
        """Write down what a queue is bound to, where that is possible: only Celery's own producers would read it."""
        try:
            super()._queue_bind(*names)
        except ResponseError as error:
            _log.warning("doorbells_refused", error=str(error))


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
