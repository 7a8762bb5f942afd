"""What hangs is ended, and what only takes long is not."""

import threading
import time

from core.domain.job import JobStatus
from core.domain.outcome import Outcome
from tests.job_bench import JobBench
from tests.loop_bench import wait_until
from tests.runner_bench import handler
from worker.runner import Run, run_next
from worker.runtime import Runtime
from worker.watchdog import guard_engine, guard_run


def test_a_worker_whose_engine_hangs_claims_no_more_and_is_ended(bench: JobBench, runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"stall_seconds": 3.0})
    released, ended = threading.Event(), threading.Event()
    held = bench.submit()
    bench.must_claim()
    bench.execute("UPDATE job SET worker_id = :me WHERE id = :id", me=runtime.worker_id, id=held.id)
    waiting = bench.submit()

    def hang() -> None:
        released.wait()

    runtime.engine._inbox.put(hang)
    guard_engine(runtime, end=ended.set)
    wait_until(lambda: runtime.engine_busy_seconds() > runtime.settings.lease_seconds)
    assert not run_next(runtime, handler(lambda _: Outcome()))
    assert bench.get(waiting.id).status == JobStatus.QUEUED
    assert ended.wait(10)
    assert bench.sweep() == 1, "what it held need not wait for its lease to run out"
    assert (bench.get(held.id).status, bench.get(held.id).crash_count) == (JobStatus.QUEUED, 1)
    released.set()
    wait_until(lambda: runtime.engine_busy_seconds() == 0)
    runtime.engine.close()


def test_a_run_that_hangs_is_ended_once_its_claim_is_lost(bench: JobBench, runtime: Runtime) -> None:
    """As one whose step never returns: upkeep takes its job back, and nothing else would end the process."""
    job = bench.submit()
    released, ended = threading.Event(), threading.Event()

    def hang(_: Run) -> Outcome:
        bench.execute("UPDATE job SET progress_at = now() - interval '1 hour' WHERE id = :id", id=job.id)
        released.wait(30)
        return Outcome()

    guard_run(runtime, end=ended.set)
    worker = threading.Thread(target=run_next, args=(runtime, handler(hang)))
    worker.start()
    wait_until(lambda: bench.sweep() == 1)
    assert ended.wait(10)
    released.set()
    worker.join()
    assert runtime.heart.idle_seconds() < runtime.settings.lease_seconds, "the lost run is no longer counted"
    assert bench.get(job.id).status == JobStatus.QUEUED, "what it brought home after all is refused"


def test_a_process_that_waits_for_its_claim_for_ever_is_ended(runtime: Runtime) -> None:
    """As over a connection that says nothing any more: there is no run that anybody could take back."""
    ended = threading.Event()
    guard_run(runtime, end=ended.set)
    assert ended.wait(10)


def test_a_run_that_keeps_its_claim_may_last(bench: JobBench, runtime: Runtime) -> None:
    bench.submit()
    ended = threading.Event()

    def last(_: Run) -> Outcome:
        time.sleep(2 * runtime.settings.lease_seconds)
        assert runtime.heart.idle_seconds() == 0.0
        return Outcome()

    guard_run(runtime, end=ended.set)
    assert run_next(runtime, handler(last))
    assert not ended.is_set()
