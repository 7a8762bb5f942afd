"""A job's life against the real Postgres: every promise of the fence, the sweep and the queue."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest

from core.domain.errors import (
    IdempotencyKeyReuse,
    InvalidInput,
    JobFailure,
    NotFound,
    OwnershipLost,
)
from core.domain.job import (
    MAX_ATTEMPTS,
    MAX_CRASHES,
    SUSPECT_CRASHES,
    JobKind,
    JobPriority,
    JobStatus,
    WorkerKind,
)
from core.domain.limit import UNLIMITED
from core.infra.table import Job
from core.infra.task_queue import TaskQueue
from core.services import job as job_service
from core.services import run as run_service
from core.services import upkeep as upkeep_service
from core.services.job import Idempotency, Submission
from core.services.run import Pulse
from core.services.tenant import create_tenant
from tests.job_bench import IMAGE, JobBench


def test_a_job_goes_from_queued_to_succeeded_with_its_artifact(bench: JobBench) -> None:
    job = bench.submit()
    assert bench.get(job.id).status == JobStatus.QUEUED
    claim = bench.must_claim()
    assert (claim.job_id, claim.claim_epoch) == (job.id, 1)
    bench.finish(claim, IMAGE)
    done = bench.get(job.id)
    assert done.status == JobStatus.SUCCEEDED
    assert done.completed_at is not None
    assert [artifact.object_key for artifact in done.artifacts] == [IMAGE.object_key]
    assert done.execution_seconds is not None


def test_the_doorbell_rings_after_the_commit_and_never_after_a_rollback(bench: JobBench) -> None:
    rung: list[UUID] = []

    class Recorder(TaskQueue):
        def __init__(self) -> None:
            pass

        def ring(self, kind: JobKind, job_id: UUID) -> bool:
            with bench.database.transaction() as session:  # another connection sees the row: it is committed
                assert session.get(Job, job_id) is not None
            rung.append(job_id)
            return True

    bench.queue = Recorder()
    job = bench.submit()
    assert rung == [job.id]
    submission = Submission(
        tenant_id=bench.tenant_id, kind=JobKind.GENERATION, spec={}, plan={}, base_model_id=bench.model_id, work_units=1
    )
    with pytest.raises(RuntimeError, match="rolled back"), bench.database.transaction() as session:
        job_service.submit(session, submission, queue=bench.queue, limits=UNLIMITED)
        raise RuntimeError("rolled back")
    assert rung == [job.id]


def test_many_workers_never_claim_the_same_job(bench: JobBench) -> None:
    jobs = {bench.submit().id for _ in range(30)}
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: bench.claim(worker_id=f"worker-{n}"), range(40)))
    claimed = [claim.job_id for claim in claims if claim is not None]
    assert len(claimed) == len(set(claimed)) == 30
    assert set(claimed) == jobs


def test_a_tenants_line_is_kept_by_priority_then_age(bench: JobBench) -> None:
    older, newer = bench.submit(priority=JobPriority.LOW), bench.submit(priority=JobPriority.LOW)
    first = bench.submit()
    assert [bench.must_claim().job_id for _ in range(3)] == [first.id, older.id, newer.id]


def test_a_run_that_lost_its_lease_commits_nothing(bench: JobBench) -> None:
    job = bench.submit()
    zombie = bench.must_claim(lease_seconds=0)
    assert bench.sweep() == 1
    assert bench.get(job.id).status == JobStatus.QUEUED
    bench.make_ready(job.id)
    heir = bench.must_claim()
    assert heir.claim_epoch == zombie.claim_epoch + 1
    with pytest.raises(OwnershipLost):
        bench.finish(zombie, IMAGE)
    assert bench.beat(zombie, heir) == [Pulse.LOST, Pulse.KEPT]
    bench.finish(heir)
    assert bench.get(job.id).artifacts == []
    with pytest.raises(OwnershipLost):
        bench.finish(heir, IMAGE)


def kill_workers(bench: JobBench, job_id: UUID, *, times: int) -> None:
    """Claim a job and lose it, so often."""
    for _ in range(times):
        bench.make_ready(job_id)
        bench.must_claim(lease_seconds=0)
        bench.sweep()


def test_a_job_that_kills_its_workers_is_poison(bench: JobBench) -> None:
    job = bench.submit()
    kill_workers(bench, job.id, times=MAX_CRASHES)
    poisoned = bench.get(job.id)
    assert (poisoned.status, poisoned.error_code) == (JobStatus.FAILED, "poisoned")


def test_a_suspect_goes_only_to_a_worker_that_has_nothing_else(bench: JobBench) -> None:
    job_id = bench.submit().id
    kill_workers(bench, job_id, times=SUSPECT_CRASHES)
    bench.make_ready(job_id)
    innocent = bench.submit()
    assert bench.claim(takes_suspects=False) is None, "nobody passes it, or it would never have its turn"
    claim = bench.must_claim()
    assert (claim.job_id, claim.is_suspect) == (job_id, True)
    other = bench.claim(takes_suspects=False)
    assert other is not None
    assert (other.job_id, other.is_suspect) == (innocent.id, False)


def test_errors_nobody_foresaw_are_tried_again_then_fail(bench: JobBench) -> None:
    job = bench.submit()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        bench.make_ready(job.id)
        claim = bench.must_claim()
        with bench.database.transaction() as session:
            run_service.fail_unexpectedly(session, claim, ZeroDivisionError())
        assert bench.get(job.id).attempt == min(attempt, MAX_ATTEMPTS - 1)
    assert bench.get(job.id).status == JobStatus.FAILED


def test_a_failure_says_why(bench: JobBench) -> None:
    job = bench.submit()
    with bench.database.transaction() as session:
        run_service.fail(session, bench.must_claim(), JobFailure("the cat sat on it"))
    failed = bench.get(job.id)
    assert (failed.error_code, failed.error_message) == ("job_failed", "the cat sat on it")


def test_a_stalled_run_is_taken_back_though_its_heart_beats(bench: JobBench) -> None:
    job = bench.submit()
    claim = bench.must_claim()
    assert bench.beat(claim) == [Pulse.KEPT]
    assert bench.sweep(stall_seconds=900) == 0
    bench.execute("UPDATE job SET progress_at = now() - interval '901 seconds' WHERE id = :id", id=job.id)
    assert bench.sweep(stall_seconds=900) == 1
    assert bench.get(job.id).status == JobStatus.QUEUED


def test_a_passed_deadline_expires_the_job_and_fences_its_run(bench: JobBench) -> None:
    waiting = bench.submit(cancel_after=timedelta(seconds=-1))
    assert bench.claim() is None
    running = bench.submit(cancel_after=timedelta(hours=1))
    claim = bench.must_claim()
    bench.execute("UPDATE job SET deadline_at = now() WHERE id = :id", id=running.id)
    assert bench.sweep() == 2
    assert {bench.get(waiting.id).status, bench.get(running.id).status} == {JobStatus.EXPIRED}
    with pytest.raises(OwnershipLost):
        bench.finish(claim)


def test_a_drained_job_goes_back_at_no_cost(bench: JobBench) -> None:
    job = bench.submit()
    with bench.database.transaction() as session:
        run_service.give_back(session, bench.must_claim(), delay=timedelta(0))
    back = bench.get(job.id)
    assert (back.status, back.attempt, back.crash_count, back.interrupt_count) == (JobStatus.QUEUED, 0, 0, 1)
    assert bench.must_claim().claim_epoch == 2


def test_a_thousand_equal_requests_with_one_key_make_one_job(bench: JobBench) -> None:
    idempotency = Idempotency("key", "a" * 64)
    barrier = threading.Barrier(8)

    def submit(_: int) -> UUID:
        barrier.wait()
        return bench.submit(idempotency=idempotency).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit, range(40)))) == 1
    with pytest.raises(IdempotencyKeyReuse):
        bench.submit(idempotency=Idempotency("key", "b" * 64))


def test_an_idempotency_key_is_forgotten_after_a_day(bench: JobBench) -> None:
    first = bench.submit(idempotency=Idempotency("key", "a" * 64))
    bench.execute("UPDATE job SET created_at = now() - interval '25 hours' WHERE id = :id", id=first.id)
    with bench.database.transaction() as session:
        upkeep_service.forget(session)
    assert bench.submit(idempotency=Idempotency("key", "b" * 64)).id != first.id


def test_the_outlook_counts_who_is_ahead(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=4)
    jobs = [bench.submit() for _ in range(3)]
    with bench.database.transaction() as session:
        outlook = job_service.outlook(session, jobs[2])
    assert outlook.queue_position == 2
    assert outlook.estimated_wait_seconds == pytest.approx((jobs[0].cost_seconds + jobs[1].cost_seconds) / 4, abs=0.05)


def test_a_deadline_that_will_hardly_be_met_is_said_while_the_job_waits(bench: JobBench) -> None:
    with bench.database.transaction() as session:
        run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=1)
    bench.submit(work_units=2000.0)  # about 20 s
    tight, roomy = (bench.submit(cancel_after=timedelta(seconds=seconds)) for seconds in (10, 60))
    with bench.database.transaction() as session:
        found = [job_service.outlook(session, bench.get(job.id)) for job in (tight, roomy)]
    assert [len(each.warnings) for each in found] == [1, 0]
    assert "20 s of waiting" in found[0].warnings[0]


def test_pages_go_newest_first_without_gap_or_repeat(bench: JobBench) -> None:
    jobs = [bench.submit().id for _ in range(7)]
    seen: list[UUID] = []
    cursor: str | None = None
    while True:
        with bench.database.transaction() as session:
            page, cursor = job_service.list_page(session, tenant_id=bench.tenant_id, limit=3, cursor=cursor)
        seen += [job.id for job in page]
        if cursor is None:
            break
    assert seen == jobs[::-1]
    with pytest.raises(InvalidInput), bench.database.transaction() as session:
        job_service.list_page(session, tenant_id=bench.tenant_id, cursor="not-a-cursor")


def test_another_tenants_job_does_not_exist(bench: JobBench) -> None:
    job = bench.submit()
    with bench.database.transaction() as session:
        stranger = create_tenant(session, name="stranger").id
    for verb in (job_service.get, job_service.cancel):
        with pytest.raises(NotFound), bench.database.transaction() as session:
            verb(session, tenant_id=stranger, job_id=job.id)
    assert bench.get(job.id).status == JobStatus.QUEUED


def test_the_estimate_learns_from_finished_jobs(bench: JobBench) -> None:
    job = bench.submit()
    claim = bench.must_claim()
    bench.execute("UPDATE job SET claimed_at = now() - interval '50 seconds' WHERE id = :id", id=job.id)
    bench.finish(claim)
    assert bench.submit().cost_seconds == pytest.approx(50, rel=0.05)
