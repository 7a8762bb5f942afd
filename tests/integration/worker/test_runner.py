"""The runner against the real Postgres, with handlers that do what each test needs."""

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from core.domain.errors import AdapterUnusable, JobStopped, Unavailable
from core.domain.job import SUSPECT_CRASHES, JobKind, JobStatus
from core.domain.outcome import Outcome
from core.services import run as run_service
from tests.job_bench import IMAGE, JobBench
from tests.loop_bench import wait_until
from tests.runner_bench import handler
from worker.runner import Run, run_next
from worker.runtime import Runtime


def raising(error: Exception) -> dict[JobKind, Callable[[Run, Runtime], Outcome]]:
    def work(_: Run) -> Outcome:
        raise error

    return handler(work)


def until_stopped(run: Run) -> Outcome:
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        if run.should_stop():
            raise JobStopped
        time.sleep(0.01)
    raise AssertionError("nobody stopped the run")


def test_nothing_to_do(bench: JobBench, runtime: Runtime) -> None:
    assert not run_next(runtime, handler(lambda _: Outcome()))
    assert bench.claim() is None


def test_a_job_is_done_and_its_outcome_committed(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit(plan={"prompt": "a star"})

    def work(run: Run) -> Outcome:
        assert run.plan == {"prompt": "a star"}
        assert run.model.name == "model"
        return Outcome(outputs=[IMAGE], warnings=["a warning"])

    assert run_next(runtime, handler(work))
    done = bench.get(job.id)
    assert (done.status, done.warnings, len(done.artifacts)) == (JobStatus.SUCCEEDED, ["a warning"], 1)


def test_the_heart_keeps_the_lease_and_writes_progress(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    seen: list[tuple[int, int, str]] = []

    def work(run: Run) -> Outcome:
        run.report(step=3, steps=4, message="denoising")
        deadline = time.monotonic() + 2 * runtime.settings.lease_seconds
        while time.monotonic() < deadline:
            assert bench.sweep() == 0, "the lease must not run out while the work goes on"
            time.sleep(0.1)
        row = bench.get(job.id)
        seen.append((row.progress_step, row.progress_steps, row.progress_message))
        return Outcome()

    run_next(runtime, handler(work))
    assert seen == [(3, 4, "denoising")]
    assert bench.get(job.id).status == JobStatus.SUCCEEDED


def test_a_heart_beats_for_all_runs_of_a_process_by_one_thread_that_ends_with_them(
    bench: JobBench, runtime: Runtime
) -> None:
    jobs = [bench.submit() for _ in range(4)]
    hearts: list[int] = []

    def work(run: Run) -> Outcome:
        deadline = time.monotonic() + 2 * runtime.settings.lease_seconds
        while time.monotonic() < deadline:
            assert bench.sweep() == 0, "no lease must run out"
            time.sleep(0.1)
        hearts.append(sum(thread.name == "heart" for thread in threading.enumerate()))
        return Outcome()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: run_next(runtime, handler(work)), jobs))
    assert hearts == [1, 1, 1, 1]
    assert all(bench.get(job.id).status == JobStatus.SUCCEEDED for job in jobs)
    wait_until(lambda: not any(thread.name == "heart" for thread in threading.enumerate()))
    another = bench.submit()
    run_next(runtime, handler(work))
    assert bench.get(another.id).status == JobStatus.SUCCEEDED


def test_a_heart_goes_on_after_a_beat_that_failed_as_nobody_foresaw(
    bench: JobBench, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.submit()
    whole, failed = run_service.heartbeat, threading.Event()

    def fail_once(*arguments: Any, **options: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("nobody foresaw this")
        return whole(*arguments, **options)

    monkeypatch.setattr(run_service, "heartbeat", fail_once)

    def work(run: Run) -> Outcome:
        deadline = time.monotonic() + 2 * runtime.settings.lease_seconds
        while time.monotonic() < deadline:
            assert bench.sweep() == 0, "the lease must not run out"
            time.sleep(0.1)
        return Outcome()

    run_next(runtime, handler(work))
    assert failed.is_set()
    assert bench.get(job.id).status == JobStatus.SUCCEEDED


def test_a_cancel_reaches_the_running_work(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()

    def work(run: Run) -> Outcome:
        bench.cancel(job.id)
        return until_stopped(run)

    run_next(runtime, handler(work))
    assert bench.get(job.id).status == JobStatus.CANCELED


def test_work_whose_lease_was_taken_stops_and_writes_nothing(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()

    def work(run: Run) -> Outcome:
        bench.execute("UPDATE job SET lease_expires_at = now() WHERE id = :id", id=job.id)
        bench.sweep()
        return until_stopped(run)

    run_next(runtime, handler(work))
    taken = bench.get(job.id)
    assert (taken.status, taken.crash_count) == (JobStatus.QUEUED, 1)


def test_a_result_of_a_stale_run_is_refused(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()

    def work(_: Run) -> Outcome:
        bench.execute("UPDATE job SET lease_expires_at = now() WHERE id = :id", id=job.id)
        bench.sweep()
        bench.make_ready(job.id)
        bench.must_claim()
        return Outcome(outputs=[IMAGE])

    run_next(runtime, handler(work))
    other = bench.get(job.id)
    assert (other.status, other.claim_epoch, other.artifacts) == (JobStatus.RUNNING, 2, [])


def test_a_failure_names_its_code(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    run_next(runtime, raising(AdapterUnusable("made for sdxl, the model is sd1")))
    failed = bench.get(job.id)
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "adapter_unusable")


def test_an_absent_store_costs_no_attempt(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    run_next(runtime, raising(Unavailable("the store is away")))
    back = bench.get(job.id)
    assert (back.status, back.attempt) == (JobStatus.QUEUED, 0)
    assert back.run_after > back.created_at


def test_a_surprise_costs_one_attempt(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    run_next(runtime, raising(ZeroDivisionError("surprise")))
    back = bench.get(job.id)
    assert (back.status, back.attempt) == (JobStatus.QUEUED, 1)


def test_an_outcome_that_the_database_does_not_take_costs_one_attempt(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    run_next(runtime, handler(lambda _: Outcome(outputs=[replace(IMAGE, sha256="0" * 65)])))
    row = bench.get(job.id)
    assert (row.status, row.attempt, row.crash_count, row.artifacts) == (JobStatus.QUEUED, 1, 0, [])


def test_a_job_that_killed_its_workers_runs_alone(bench: JobBench, runtime: Runtime) -> None:
    """A poison pill and its neighbour were held by the same workers, and both died with them each time."""
    pair = [bench.submit(), bench.submit()]
    for job in pair:
        bench.execute("UPDATE job SET crash_count = :n WHERE id = :id", n=SUSPECT_CRASHES, id=job.id)
    beside: list[bool] = []

    def work(run: Run) -> Outcome:
        beside.append(run_next(runtime, handler(lambda _: Outcome())))
        return Outcome()

    while run_next(runtime, handler(work)):
        pass
    assert beside == [False, False]
    assert [bench.get(job.id).status for job in pair] == [JobStatus.SUCCEEDED] * 2


def test_a_full_disk_costs_the_job_nothing(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    run_next(runtime, raising(OSError(errno.ENOSPC, "No space left on device")))
    back = bench.get(job.id)
    assert (back.status, back.attempt, back.interrupt_count) == (JobStatus.QUEUED, 0, 1)


def test_a_draining_worker_claims_no_more(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit()
    runtime.draining.set()
    assert not run_next(runtime, handler(lambda _: Outcome()))
    assert bench.get(job.id).status == JobStatus.QUEUED


def test_a_draining_worker_gives_its_training_back(bench: JobBench, runtime: Runtime) -> None:
    job = bench.submit(kind=JobKind.TRAINING)

    def work(run: Run) -> Outcome:
        runtime.draining.set()
        return until_stopped(run)

    run_next(runtime, {JobKind.TRAINING: lambda run, _: work(run)})
    back = bench.get(job.id)
    assert (back.status, back.interrupt_count, back.attempt) == (JobStatus.QUEUED, 1, 0)
