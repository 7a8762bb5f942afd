"""Real Celery worker processes against the real Redis and Postgres: doorbells, polling, kill -9, drain."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from redis import Redis

from chaos.doorbell import strange, unreadable
from core.domain.job import JobKind, JobStatus, WorkerKind
from core.domain.message import QUEUE_NAME
from core.infra.repository import worker as workers
from core.infra.settings import Settings
from tests.job_bench import JobBench
from tests.servers import refuses_writes

ROOT = Path(__file__).parents[3]
Start = Callable[..., "subprocess.Popen[bytes]"]


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process reads them."""
    values = settings.model_dump(mode="python", exclude_none=True)
    plain = {name.upper(): getattr(value, "get_secret_value", lambda v=value: v)() for name, value in values.items()}
    plain["UPDATE_POLICY"] = settings.update_policy.model_dump_json()
    return os.environ | {name: str(value) for name, value in plain.items()} | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Starts worker processes in their own groups; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "worker.log").open("wb")

    def start(kind: str = "generation", **changes: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.worker.plain_worker", kind],
            env=environment(settings) | changes,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    log.close()


def wait_for(bench: JobBench, job_id: UUID, *statuses: JobStatus, seconds: float = 40) -> JobStatus:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = JobStatus(bench.get(job_id).status)
        if status in statuses:
            return status
        time.sleep(0.05)
    raise AssertionError(f"the job is still {status}")


def wait_for_worker(bench: JobBench, *, seconds: float = 40) -> None:
    """Until a worker has looked for work for the first time: only a doorbell makes it look again soon."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with bench.database.transaction() as session:
            if workers.live_slots(session, kind=WorkerKind.GENERATION, seen_within_seconds=60):
                time.sleep(0.5)  # it says that it lives, and looks, in one go
                return
        time.sleep(0.05)
    raise AssertionError("no worker came to life")


def test_a_doorbell_starts_the_work(bench: JobBench, start: Start) -> None:
    start(POLL_SECONDS="600")
    wait_for_worker(bench)
    jobs = [bench.submit() for _ in range(5)]
    for job in jobs:
        wait_for(bench, job.id, JobStatus.SUCCEEDED)


def test_doorbells_that_nobody_can_read_are_dropped_and_the_next_one_is_heard(
    bench: JobBench, start: Start, settings: Settings
) -> None:
    with Redis.from_url(settings.redis_url) as redis:
        redis.hset("unacked", "tag", "no JSON {")
        redis.zadd("unacked_index", {"tag": 1})
        worker = start(POLL_SECONDS="600")
        wait_for_worker(bench)
        for message in [*strange(JobKind.GENERATION), *unreadable(JobKind.GENERATION)]:
            redis.lpush(QUEUE_NAME[JobKind.GENERATION], message)
            wait_for(bench, bench.submit().id, JobStatus.SUCCEEDED)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(30) == 0
        assert not redis.llen(QUEUE_NAME[JobKind.GENERATION])


def refused(redis: Redis) -> int:
    """How often it refused a write for want of a replica."""
    return int(redis.info("errorstats").get("errorstat_NOREPLICAS", {}).get("count", 0))


def test_a_redis_that_refuses_writes_ends_no_worker_and_the_next_doorbell_is_heard(
    bench: JobBench, start: Start, settings: Settings
) -> None:
    worker = start(POLL_SECONDS="600")
    wait_for_worker(bench)
    with refuses_writes(settings) as redis:
        before, deadline = refused(redis), time.monotonic() + 40
        while refused(redis) < before + 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert refused(redis) >= before + 3, "the worker asks again"
    wait_for(bench, bench.submit().id, JobStatus.SUCCEEDED)
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(30) == 0


def test_a_worker_that_starts_while_redis_refuses_writes_polls(
    bench: JobBench, start: Start, settings: Settings
) -> None:
    with refuses_writes(settings):
        worker = start(POLL_SECONDS="0.2")
        for _ in range(3):
            wait_for(bench, bench.submit().id, JobStatus.SUCCEEDED)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(30) == 0


def test_a_key_that_is_no_queue_ends_no_worker(bench: JobBench, start: Start, settings: Settings) -> None:
    with Redis.from_url(settings.redis_url) as redis:
        redis.set(QUEUE_NAME[JobKind.GENERATION], "no list")
        worker = start(POLL_SECONDS="0.2")
        for _ in range(3):
            wait_for(bench, bench.submit().id, JobStatus.SUCCEEDED)
    worker.terminate()
    assert worker.wait(30) == 0


def test_without_redis_an_idle_worker_polls(bench: JobBench, start: Start) -> None:
    start(REDIS_URL="redis://127.0.0.1:1/0", POLL_SECONDS="0.2")
    for _ in range(3):
        wait_for(bench, bench.submit().id, JobStatus.SUCCEEDED)


def test_a_killed_workers_job_is_done_once_by_another(bench: JobBench, start: Start) -> None:
    job = bench.submit(plan={"seconds": 1.5})
    victim = start(LEASE_SECONDS="3", POLL_SECONDS="0.2")
    wait_for(bench, job.id, JobStatus.RUNNING)
    os.killpg(victim.pid, signal.SIGKILL)
    start(LEASE_SECONDS="3", POLL_SECONDS="0.2")
    deadline = time.monotonic() + 40
    while bench.get(job.id).status != JobStatus.SUCCEEDED:
        assert time.monotonic() < deadline
        bench.sweep()
        time.sleep(0.1)
    done = bench.get(job.id)
    assert (done.claim_epoch, done.crash_count) == (2, 1)


@pytest.mark.parametrize("redis", ["there", "away"])
def test_a_terminated_worker_finishes_what_it_has(bench: JobBench, start: Start, redis: str) -> None:
    running = bench.submit(plan={"seconds": 2})
    away = {"REDIS_URL": "redis://127.0.0.1:1/0"} if redis == "away" else {}
    worker = start(POLL_SECONDS="0.2", GENERATION_SLOTS="1", **away)
    wait_for(bench, running.id, JobStatus.RUNNING)
    waiting = bench.submit()
    worker.terminate()
    assert worker.wait(30) == 0
    assert bench.get(running.id).status == JobStatus.SUCCEEDED
    assert bench.get(waiting.id).status == JobStatus.QUEUED


def test_a_terminated_worker_gives_its_training_back(bench: JobBench, start: Start) -> None:
    job = bench.submit(kind=JobKind.TRAINING, plan={"seconds": 600})
    worker = start("training", POLL_SECONDS="0.2")
    wait_for(bench, job.id, JobStatus.RUNNING)
    worker.terminate()
    assert worker.wait(30) == 0
    back = bench.get(job.id)
    assert (back.status, back.interrupt_count) == (JobStatus.QUEUED, 1)
