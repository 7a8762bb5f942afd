"""What is told of a job, against the real Postgres: each event once, whoever looks, whatever dies."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from core.domain.errors import JobFailure
from core.domain.job import MAX_CRASHES, JobStatus
from core.domain.retention import Retention
from core.domain.webhook import Webhook, WebhookEvent
from core.infra.table import Job
from core.services import run as runs
from core.services import upkeep as upkeeps
from tests.job_bench import IMAGE, JobBench
from tests.webhook_bench import ALL, note, noted, submit, take


def test_start_outputs_and_end_are_told_once(bench: JobBench) -> None:
    job = submit(bench)
    assert noted(bench, job) == []
    claim = bench.must_claim()
    for _ in range(2):
        assert noted(bench, job) == ["start"]
    bench.finish(claim, IMAGE)
    for _ in range(2):
        assert noted(bench, job) == ["completed", "output", "start"]
    assert note(bench) == 0


def test_what_went_by_between_two_looks_is_told_too(bench: JobBench) -> None:
    job = submit(bench)
    bench.finish(bench.must_claim(), IMAGE)
    assert noted(bench, job) == ["completed", "output", "start"]


def test_a_job_that_runs_again_starts_once(bench: JobBench) -> None:
    job = submit(bench)
    bench.must_claim(lease_seconds=0)
    note(bench)
    bench.sweep()
    assert noted(bench, job) == ["start"]
    bench.make_ready(job.id)
    bench.must_claim()
    assert noted(bench, job) == ["start"]


def fail(bench: JobBench, _: Job) -> None:
    with bench.database.transaction() as session:
        runs.fail(session, bench.must_claim(), JobFailure("no luck"))


def poison(bench: JobBench, job: Job) -> None:
    for _ in range(MAX_CRASHES):
        bench.make_ready(job.id)
        bench.must_claim(lease_seconds=0)
        bench.sweep()


def cancel_waiting(bench: JobBench, job: Job) -> None:
    bench.cancel(job.id)


def cancel_running(bench: JobBench, job: Job) -> None:
    claim = bench.must_claim()
    bench.cancel(job.id)
    with bench.database.transaction() as session:
        runs.mark_canceled(session, claim)


def expire(bench: JobBench, job: Job) -> None:
    bench.execute("UPDATE job SET deadline_at = now() WHERE id = :id", id=job.id)
    bench.sweep()


def succeed_with_nothing(bench: JobBench, _: Job) -> None:
    bench.finish(bench.must_claim())


@pytest.mark.parametrize(
    ("end", "status", "events"),
    [
        (fail, JobStatus.FAILED, ["completed", "start"]),
        (poison, JobStatus.FAILED, ["completed", "start"]),
        (cancel_waiting, JobStatus.CANCELED, ["completed"]),
        (cancel_running, JobStatus.CANCELED, ["completed", "start"]),
        (expire, JobStatus.EXPIRED, ["completed"]),
        (succeed_with_nothing, JobStatus.SUCCEEDED, ["completed", "start"]),
    ],
)
def test_however_it_ends_the_end_is_told(bench: JobBench, end: Any, status: JobStatus, events: list[str]) -> None:
    job = submit(bench)
    end(bench, job)
    assert bench.get(job.id).status == status
    assert noted(bench, job) == events


def test_only_what_was_asked_for_is_told_and_nothing_of_jobs_without_a_webhook(bench: JobBench) -> None:
    plain = submit(bench, None)
    some = submit(bench, Webhook(ALL.url, (WebhookEvent.OUTPUT,)))
    for number in range(2):
        bench.finish(bench.must_claim(), replace(IMAGE, object_key=f"job/{number}"))
    assert (noted(bench, plain), noted(bench, some)) == ([], ["output"])


def test_many_upkeeps_at_once_write_and_take_each_event_once(bench: JobBench) -> None:
    """Some run, some have ended; several processes look at them at once, again and again."""
    for _ in range(20):
        submit(bench)
    for number in range(14):
        claim = bench.must_claim()
        if number % 2:
            bench.finish(claim, replace(IMAGE, object_key=f"job/{number}"))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: note(bench), range(24)))
    note(bench)
    with bench.database.transaction() as session:
        rows = session.execute(text("SELECT event, count(*) FROM webhook_delivery GROUP BY event ORDER BY event"))
        assert [tuple(each) for each in rows] == [("completed", 7), ("output", 7), ("start", 14)]
    with ThreadPoolExecutor(6) as pool:
        rounds = list(pool.map(lambda _: take(bench), range(24)))
    while last := take(bench):
        rounds.append(last)
    taken = [letter.id for letters in rounds for letter in letters]
    assert len(taken) == len(set(taken)) == 28


def test_deliveries_go_with_their_job(bench: JobBench, store: Any) -> None:
    job = submit(bench)
    bench.finish(bench.must_claim(), IMAGE)
    assert len(noted(bench, job)) == 3
    bench.execute("UPDATE job SET completed_at = now() - interval '1 year'")
    with bench.database.transaction() as session:
        assert upkeeps.remove_old(session, store=store, retention=Retention(job_days=30, training_days=30)) == 1
        assert session.execute(text("SELECT count(*) FROM webhook_delivery")).scalar_one() == 0
