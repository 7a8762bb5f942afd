"""Who waits for a job is woken by what workers say, and by a glance where they cannot say it."""

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from api import job_watch
from api.job_watch import JobWatch
from cli.ledger import any_free_port
from core.infra.database import Database
from core.infra.job_ear import JobEar
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from core.services.tenant import create_tenant
from tests.job_bench import JobBench, add_model

LONG = 60.0


@pytest.fixture
def bench(settings: Settings, database: Database) -> JobBench:
    with database.transaction() as session:
        tenant_id = create_tenant(session, name=f"tenant-{uuid4().hex[:8]}").id
    queue = TaskQueue(settings)
    queue.close()  # it connects again when it is used
    return JobBench(database, queue, tenant_id, add_model(database, tenant_id, name="model"))


def wait_for_two(watch: JobWatch, bench: JobBench, end: Callable[[UUID], None]) -> None:
    """One waits first; then comes another; both of their jobs end, one after the other."""

    async def run() -> None:
        async with asyncio.TaskGroup() as group, asyncio.timeout(LONG):
            for job in (bench.submit(), bench.submit()):
                waiter = group.create_task(watch.wait(job.id, seconds=LONG))
                await asyncio.sleep(0.1)
                assert not waiter.done()
                await asyncio.to_thread(end, job.id)
                await waiter

    asyncio.run(run())


def finish_next(bench: JobBench) -> None:
    bench.finish(bench.must_claim())


def test_what_is_said_wakes_at_once(settings: Settings, bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_watch, "_GLANCE_SECONDS", 2 * LONG)

    def end(job_id: UUID) -> None:
        assert bench.queue.say_ended(uuid4())  # somebody else's
        finish_next(bench)
        assert bench.queue.say_ended(job_id)

    wait_for_two(JobWatch(bench.database, JobEar(settings)), bench, end)
    bench.queue.close()


@pytest.mark.parametrize("has_redis", [True, False])
def test_what_nobody_says_is_seen(settings: Settings, bench: JobBench, has_redis: bool) -> None:
    heard = (
        settings if has_redis else settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{any_free_port()}/0"})
    )
    wait_for_two(JobWatch(bench.database, JobEar(heard)), bench, lambda _: finish_next(bench))
    bench.queue.close()


def test_all_may_go_once_the_process_ends(settings: Settings, bench: JobBench) -> None:
    async def run() -> None:
        watch, job = JobWatch(bench.database, JobEar(settings)), bench.submit()
        async with asyncio.timeout(LONG):
            waiter = asyncio.create_task(watch.wait(job.id, seconds=2 * LONG))
            await asyncio.sleep(0.1)
            watch.release()
            await waiter
            await watch.wait(job.id, seconds=2 * LONG)

    asyncio.run(run())
    bench.queue.close()
