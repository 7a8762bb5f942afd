"""Who is called next, and by which doorbells: on the real Postgres and Redis."""

import redis

from core.domain.job import JobKind, JobStatus, WorkerKind
from core.domain.message import QUEUE_NAME
from core.infra.settings import Settings
from core.infra.table import Job
from core.services import run as run_service
from tests.job_bench import JobBench


def test_doorbells_are_rung_again_only_when_due_and_for_live_workers(bench: JobBench, settings: Settings) -> None:
    for _ in range(5):
        bench.submit()
    assert bench.ring(ring_seconds=0) == 0, "nobody is there to hear it"
    with bench.database.transaction() as session:
        run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=2)
    assert bench.ring(ring_seconds=15) == 0, "rung at submit"
    assert bench.ring(ring_seconds=0) == 0, "those doorbells hang there still"
    lose_doorbells(settings, left=0)
    assert bench.ring(ring_seconds=15) == 0, "nobody knows yet that they are lost"
    assert bench.ring(ring_seconds=0) == 4, "twice the slots"
    assert bench.ring(ring_seconds=0) == 0
    lose_doorbells(settings, left=1)
    assert bench.ring(ring_seconds=0) == 3


def lose_doorbells(settings: Settings, *, left: int) -> None:
    client = redis.Redis.from_url(settings.redis_url)
    client.ltrim(QUEUE_NAME[JobKind.GENERATION], 1, left)  # from the second on, and so none where none is to be left
    client.close()


def test_jobs_of_several_kinds_stand_in_one_line(bench: JobBench) -> None:
    kinds = [JobKind.GENERATION, JobKind.REGISTRATION, JobKind.REGISTRATION, JobKind.GENERATION, JobKind.REGISTRATION]
    jobs = [bench.submit(kind=kind).id for kind in kinds]
    assert [bench.must_claim().job_id for _ in jobs] == jobs
    assert bench.claim() is None


def test_a_kind_whose_only_job_another_worker_takes_this_moment_hides_no_other(bench: JobBench) -> None:
    first, second = bench.submit(kind=JobKind.REGISTRATION).id, bench.submit().id
    with bench.database.transaction() as session:
        session.get_one(Job, first, with_for_update=True)
        assert bench.must_claim().job_id == second
    assert bench.must_claim().job_id == first


def test_a_plan_in_words_of_a_newer_version_waits_for_a_worker_of_that_version(bench: JobBench) -> None:
    newer, older = bench.submit(), bench.submit()
    bench.execute("UPDATE job SET plan_version = plan_version + 1 WHERE id = :id", id=newer.id)
    assert bench.must_claim().job_id == older.id
    assert bench.claim() is None
    assert bench.get(newer.id).status == JobStatus.QUEUED
