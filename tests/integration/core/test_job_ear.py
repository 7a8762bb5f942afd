"""Ends of jobs, said and heard on the real Redis."""

import asyncio
from uuid import uuid4

import redis

from cli.ledger import any_free_port
from core.infra.job_ear import JobEar
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue


def test_an_end_is_heard(settings: Settings, queue: TaskQueue) -> None:
    job_id = uuid4()

    async def hear() -> None:
        ear = JobEar(settings)
        await ear.listen()
        assert queue.say_ended(job_id)
        assert await ear.hear(seconds=30) == job_id
        assert await ear.hear(seconds=0.01) is None
        await ear.close()

    asyncio.run(hear())


def test_it_listens_again_after_redis_let_go_of_it(settings: Settings, queue: TaskQueue) -> None:
    job_id = uuid4()

    async def hear() -> None:
        ear = JobEar(settings)
        await ear.listen()
        client = redis.Redis.from_url(settings.redis_url)
        client.client_kill_filter(_type="pubsub")
        client.close()
        for _ in range(3):
            await ear.hear(seconds=0.01)
        assert queue.say_ended(job_id)
        assert await ear.hear(seconds=30) == job_id
        await ear.close()

    asyncio.run(hear())


def test_without_redis_it_hears_nothing_and_says_so_in_time(settings: Settings) -> None:
    async def hear() -> None:
        ear = JobEar(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{any_free_port()}/0"}))
        await ear.listen()
        assert await ear.hear(seconds=0.01) is None
        await ear.close()

    asyncio.run(hear())
