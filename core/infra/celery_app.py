"""The Celery application of the workers."""

from celery import Celery

from core.infra.settings import Settings


def make_celery(settings: Settings) -> Celery:
    """Connects when first used.

    Postgres holds the jobs, so a message may be lost or doubled: early acknowledgement, no result backend.
    """
    app = Celery("lorikeet", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_channel_error_retry=True,  # whatever Redis refuses, a worker can still poll
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport="core.infra.doorbell_ear:DoorbellTransport",
        broker_transport_options={
            "ack_emulation": False,  # a doorbell that is lost is rung again: nothing to keep of it in Redis
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
        worker_consumer="core.infra.doorbell_ear:DoorbellConsumer",
        worker_enable_remote_control=False,  # nobody calls workers to order, and Redis would let anybody
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app
