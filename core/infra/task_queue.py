"""The Celery producer: rings a doorbell, by task name and job id only, after the commit."""

import time
from uuid import UUID

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from core.domain.job import JobKind
from core.domain.message import QUEUE_NAME, TASK_NAME
from core.infra.settings import Settings

_log = structlog.get_logger()
_SILENCE_SECONDS = 2.0


def make_celery(settings: Settings) -> Celery:
    """The Celery application of producers and workers. Connects when first used.

    Postgres holds the jobs, so a message may be lost or doubled: early acknowledgement, no result backend.
    """
    app = Celery("lorikeet", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "retry_on_timeout": True,
        },
        task_acks_late=False,
        task_create_missing_queues=True,
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


class TaskQueue:
    """Rings for jobs whose rows are committed. Never raises: a lost ring only means that work starts later."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_celery(settings)
        # By default a producer tries for six seconds to connect, on the thread of the request that rings.
        self._app.conf.broker_transport_options["max_retries"] = 0
        self._silent_until = 0.0

    def ring(self, kind: JobKind, job_id: UUID) -> bool:
        """Send one doorbell; whether Redis took it."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._app.send_task(TASK_NAME[kind], kwargs={"job_id": str(job_id)}, queue=QUEUE_NAME[kind], retry=False)
        except (OperationalError, OSError) as error:
            # Redis is away: workers poll by themselves, and nobody should wait for a time-out at every request.
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            _log.warning("doorbell_lost", job_id=str(job_id), error=str(error))
            return False
        return True

    def is_reachable(self) -> bool:
        """Whether Redis answers."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=0, timeout=2)
        except (OperationalError, OSError):
            return False
        return True

    def close(self) -> None:
        """Give the connections back."""
        self._app.close()
