"""Limits of a tenant, on the real Postgres: what is refused, in which words, and when there is room again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from math import inf

import pytest
from sqlalchemy import text

from core.domain.errors import QueueFull, QuotaExceeded
from core.domain.job import JobKind, WorkerKind
from core.domain.limit import Limits
from core.domain.outcome import Outcome
from core.services import limit as limits
from core.services import run as run_service
from core.services import upkeep as upkeep_service
from core.services.tenant import create_tenant
from tests.job_bench import JobBench


def allow(bench: JobBench, **changes: float | None) -> None:
    with bench.database.transaction() as session:
        limits.set_limits(session, tenant_id=bench.tenant_id, changes=changes)


def has_a_worker(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=1)


def test_a_full_queue_says_when_to_come_back(bench: JobBench) -> None:
    has_a_worker(bench)
    few = Limits(queued_seconds=60)
    bench.submit(work_units=4000.0, limits=few)
    bench.must_claim()
    bench.submit(work_units=5000.0, limits=few)
    with pytest.raises(QueueFull, match="About 50 seconds of your work are waiting; at most 60 may") as refusal:
        bench.submit(work_units=5000.0, limits=few)
    assert refusal.value.retry_after_seconds == pytest.approx(40, abs=1), "then the one that waits starts"


def test_who_has_many_jobs_waiting_is_told_when_the_first_of_them_starts(bench: JobBench) -> None:
    """Others are served in between, and that is part of it."""
    with bench.database.transaction() as session:
        other = create_tenant(session, name="other").id
    bench.submit(work_units=3000.0, tenant_id=other)
    bench.must_claim()
    few = Limits(queued_jobs=2)
    bench.submit(work_units=1000.0, tenant_id=other)
    for _ in range(2):
        bench.submit(work_units=1000.0, limits=few)
    with pytest.raises(QueueFull) as nobody_works:
        bench.submit(limits=few)
    assert nobody_works.value.retry_after_seconds == 600
    has_a_worker(bench)
    with pytest.raises(QueueFull) as refusal:
        bench.submit(limits=few)
    assert refusal.value.retry_after_seconds == pytest.approx(40, abs=1), (
        "30 s of a job that runs, 10 s of one that waits"
    )


def test_a_single_job_may_be_larger_than_the_queue(bench: JobBench) -> None:
    assert bench.submit(work_units=50_000.0, limits=Limits(queued_seconds=60)).cost_seconds > 60


def test_so_many_jobs_wait_and_no_more(bench: JobBench) -> None:
    few = Limits(queued_jobs=3)
    for _ in range(3):
        bench.submit(limits=few)
    with pytest.raises(QueueFull, match="3 of your jobs are waiting; at most 3 may"):
        bench.submit(limits=few)
    bench.must_claim()
    bench.submit(limits=few)


@pytest.mark.parametrize("few", [Limits(queued_jobs=1), Limits(queued_seconds=3600)])
def test_what_waits_for_other_workers_leaves_room_for_pictures(bench: JobBench, few: Limits) -> None:
    """A training may wait for hours, and pictures do not wait for it."""
    bench.submit(kind=JobKind.TRAINING, work_units=400_000.0, limits=few)
    bench.submit(limits=few)
    for kind in (JobKind.MODEL_UPDATE, JobKind.REGISTRATION):
        with pytest.raises(QueueFull):
            bench.submit(kind=kind, work_units=400_000.0, limits=few)


def test_a_days_gpu_seconds_are_those_of_all_workers(bench: JobBench) -> None:
    an_hour = Limits(gpu_seconds_per_day=3600)
    bench.submit(kind=JobKind.TRAINING, work_units=300_000.0, limits=an_hour)
    with pytest.raises(QuotaExceeded, match="about 4000 more would be waiting"):
        bench.submit(work_units=100_000.0, limits=an_hour)


def test_the_line_of_all_tenants_has_an_end(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        other = create_tenant(session, name="other").id
    few = Limits(queued_jobs_of_all=2)
    for tenant_id in (bench.tenant_id, other):
        bench.submit(limits=few, tenant_id=tenant_id)
    with pytest.raises(QueueFull, match="of all tenants") as refusal:
        bench.submit(limits=few)
    assert refusal.value.retry_after_seconds > 0
    assert refusal.value.retry_after_seconds == 600, "no worker is alive"
    bench.must_claim()
    bench.submit(limits=few)


def test_the_days_gpu_seconds_are_counted_and_end(bench: JobBench) -> None:
    a_minute = Limits(gpu_seconds_per_day=60)
    job = bench.submit(limits=a_minute)
    claim = bench.must_claim()
    bench.execute("UPDATE job SET claimed_at = now() - interval '58 seconds' WHERE id = :id", id=job.id)
    bench.finish(claim)
    bench.execute("UPDATE work_rate SET seconds_per_unit = 1")
    with pytest.raises(QuotaExceeded, match=r"ran for 5[89] seconds in 24 hours, and about 10 more") as refusal:
        bench.submit(limits=a_minute)
    assert 23 * 3600 < refusal.value.retry_after_seconds <= 24 * 3600
    bench.execute("UPDATE gpu_usage SET hour = hour - interval '25 hours'")
    bench.submit(limits=a_minute)


def test_the_quota_says_when_enough_of_it_is_free_again(bench: JobBench) -> None:
    a_minute = Limits(gpu_seconds_per_day=60)
    for hours_ago, seconds in ((20, 1), (10, 50), (5, 9)):
        bench.execute(
            "INSERT INTO gpu_usage (tenant_id, hour, seconds) "
            "VALUES (:tenant_id, date_trunc('hour', now()) - :ago, :seconds)",
            tenant_id=bench.tenant_id,
            ago=timedelta(hours=hours_ago),
            seconds=seconds,
        )
    with pytest.raises(QuotaExceeded, match="ran for 60 seconds in 24 hours, and about 20 more") as refusal:
        bench.submit(work_units=2000.0, limits=a_minute)
    assert 13 * 3600 < refusal.value.retry_after_seconds <= 14 * 3600, "the second of the hours has to leave"
    bench.execute("UPDATE gpu_usage SET hour = hour - make_interval(secs => :s)", s=refusal.value.retry_after_seconds)
    bench.submit(work_units=2000.0, limits=a_minute)


@pytest.mark.parametrize("few", [Limits(queued_jobs=3), Limits(queued_seconds=35), Limits(gpu_seconds_per_day=35)])
def test_who_submits_from_everywhere_at_once_gets_no_more_than_is_allowed(bench: JobBench, few: Limits) -> None:
    together = threading.Barrier(8)

    def submit(_: int) -> bool:
        together.wait()
        try:
            bench.submit(work_units=1000.0, limits=few)
        except (QueueFull, QuotaExceeded):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = [taken for _ in range(5) for taken in pool.map(submit, range(8))]
    assert sum(taken) == 3


def test_every_run_is_charged_however_it_ended(bench: JobBench) -> None:
    ends = (
        lambda session, claim: run_service.give_back(session, claim, delay=timedelta(0)),
        lambda session, claim: run_service.fail_unexpectedly(session, claim, ZeroDivisionError()),
        lambda session, claim: run_service.finish(session, claim, Outcome()),
    )
    job = bench.submit()
    for end in ends:
        bench.make_ready(job.id)
        claim = bench.must_claim()
        bench.execute("UPDATE job SET claimed_at = now() - interval '10 seconds' WHERE id = :id", id=job.id)
        with bench.database.transaction() as session:
            end(session, claim)
    with pytest.raises(QuotaExceeded, match=r"ran for 3\d seconds"):
        bench.submit(limits=Limits(gpu_seconds_per_day=30))


def test_what_the_operator_gave_a_tenant_goes_before_the_settings(bench: JobBench) -> None:
    allow(bench, queued_jobs=1, queued_seconds=inf)
    default = Limits(queued_jobs=100, queued_seconds=1)
    bench.submit(limits=default)
    with pytest.raises(QueueFull, match="at most 1 may"):
        bench.submit(limits=default)
    with bench.database.transaction() as session:
        other = create_tenant(session, name="other").id
        assert limits.limits_of(session, tenant_id=other, default=default) == default
        mine = limits.limits_of(session, tenant_id=bench.tenant_id, default=default)
    assert mine == Limits(queued_jobs=1, queued_seconds=inf)
    allow(bench, queued_jobs=None)
    bench.submit(limits=default)


def test_usage_is_forgotten_after_five_weeks(bench: JobBench) -> None:
    bench.submit()
    bench.finish(bench.must_claim())
    bench.execute("UPDATE gpu_usage SET hour = hour - interval '36 days'")
    with bench.database.transaction() as session:
        upkeep_service.forget(session)
        assert session.execute(text("SELECT count(*) FROM gpu_usage")).scalar_one() == 0


def test_what_runs_counts_before_it_has_ended(bench: JobBench) -> None:
    a_minute = Limits(gpu_seconds_per_day=60)
    bench.submit(work_units=5000.0, limits=a_minute)
    bench.must_claim()
    with pytest.raises(QuotaExceeded, match=r"ran for 5\d seconds"):
        bench.submit(work_units=5000.0, limits=a_minute)


def test_a_run_that_was_taken_back_is_charged_too(bench: JobBench) -> None:
    job = bench.submit()
    bench.must_claim(lease_seconds=0)
    bench.execute("UPDATE job SET claimed_at = now() - interval '40 seconds' WHERE id = :id", id=job.id)
    bench.sweep()
    with pytest.raises(QuotaExceeded, match=r"ran for 4\d seconds"):
        bench.submit(limits=Limits(gpu_seconds_per_day=40))


def test_no_run_is_charged_beyond_its_lease_when_nobody_swept_for_hours(bench: JobBench) -> None:
    job = bench.submit()
    bench.must_claim(lease_seconds=20)
    for column in ("claimed_at", "lease_expires_at"):
        bench.execute(f"UPDATE job SET {column} = {column} - interval '8 hours' WHERE id = :id", id=job.id)
    bench.sweep()
    with bench.database.transaction() as session:
        assert session.execute(text("SELECT sum(seconds) FROM gpu_usage")).scalar_one() == pytest.approx(20)
        assert session.execute(text("SELECT served_place FROM line_turn")).scalar_one() < 100


def test_a_job_that_is_too_large_for_a_day_is_told_to_wait_for_one(bench: JobBench) -> None:
    with pytest.raises(QuotaExceeded) as refusal:
        bench.submit(work_units=50_000.0, limits=Limits(gpu_seconds_per_day=60))
    assert refusal.value.retry_after_seconds == 24 * 3600
