"""Doorbells on the real Redis, as Celery's own library reads them."""

from uuid import uuid4

import pytest
import redis
from kombu import Connection

from cli.ledger import any_free_port
from core.domain.job import JobKind
from core.domain.message import QUEUE_NAME, TASK_NAME
from core.infra.celery_app import make_celery
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from tests.servers import refuses_writes


@pytest.mark.parametrize("kind", JobKind)
def test_a_doorbell_reads_like_celerys_own(settings: Settings, queue: TaskQueue, kind: JobKind) -> None:
    job_id = uuid4()
    assert queue.ring(kind, job_id)
    app = make_celery(settings)
    app.send_task(TASK_NAME[kind], kwargs={"job_id": str(job_id)}, queue=QUEUE_NAME[kind])
    app.close()
    with Connection(settings.redis_url) as connection, connection.SimpleQueue(QUEUE_NAME[kind]) as line:
        ours, theirs = line.get(timeout=5), line.get(timeout=5)
        assert ours.payload == theirs.payload == [[], {"job_id": str(job_id)}, theirs.payload[2]]
        assert (
            ours.headers.items()
            <= (theirs.headers | {name: ours.headers[name] for name in ("id", "root_id", "ignore_result")}).items()
        )
        assert set(theirs.properties) - set(ours.properties) <= {"reply_to"}
        for message in (ours, theirs):
            message.ack()


def test_an_absent_redis_costs_no_time_and_no_error(settings: Settings) -> None:
    queue = TaskQueue(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{any_free_port()}/0"}))
    assert not queue.ring(JobKind.GENERATION, uuid4())
    assert not queue.is_reachable()
    assert queue.unheard(JobKind) is None
    assert not queue.ring(JobKind.GENERATION, uuid4())
    queue.close()


def test_a_redis_that_refuses_writes_is_an_absent_one(settings: Settings, queue: TaskQueue) -> None:
    with refuses_writes(settings):
        assert not queue.is_reachable()
        assert not queue.ring(JobKind.GENERATION, uuid4())
        assert queue.unheard(JobKind) == 0
    assert queue.is_reachable()
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.keys() == [], "to ask leaves nothing behind"


def test_a_connection_that_redis_closed_is_opened_anew(settings: Settings, queue: TaskQueue) -> None:
    assert queue.ring(JobKind.GENERATION, uuid4())
    client = redis.Redis.from_url(settings.redis_url)
    client.client_kill_filter(_type="normal", skipme=True)
    assert queue.ring(JobKind.GENERATION, uuid4())
    assert client.llen(QUEUE_NAME[JobKind.GENERATION]) == 2
    client.close()
