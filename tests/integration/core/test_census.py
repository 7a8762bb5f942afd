"""What is counted for metrics."""

from uuid import UUID

import pytest

from core.domain.job import JobKind, JobStatus
from core.services import census
from tests.job_bench import JobBench


def overdue(bench: JobBench) -> float:
    with bench.database.transaction() as session:
        return census.take(session).jobs_overdue


def claimed(bench: JobBench) -> UUID:
    bench.submit()
    return bench.must_claim().job_id


def test_jobs_are_overdue_by_what_the_oldest_lease_or_deadline_is(bench: JobBench) -> None:
    assert overdue(bench) == 0
    waits, runs, other = bench.submit().id, claimed(bench), claimed(bench)
    late = "UPDATE job SET {} = now() - make_interval(secs => :seconds) WHERE id = :id"
    assert overdue(bench) == 0
    bench.execute(late.format("deadline_at"), seconds=100, id=waits)
    assert overdue(bench) == pytest.approx(100, abs=60)
    bench.execute(late.format("lease_expires_at"), seconds=1000, id=runs)
    bench.execute(late.format("lease_expires_at"), seconds=500, id=other)
    assert overdue(bench) == pytest.approx(1000, abs=60)
    bench.sweep()
    assert overdue(bench) == 0


def test_failed_jobs_are_counted_by_their_code_and_poison_from_the_beginning(bench: JobBench) -> None:
    """An alert sees a figure grow only if it was there before."""
    ended = (
        "UPDATE job SET status = 'failed', error_code = :code, lease_expires_at = NULL, completed_at = now() "
        "WHERE id = :id"
    )
    for code in ("poisoned", "out_of_memory", "out_of_memory"):
        bench.submit()
        job_id = bench.must_claim().job_id
        bench.execute(ended, code=code, id=job_id)
    with bench.database.transaction() as session:
        counted = census.take(session)
    assert {key: number for key, number in counted.failed.items() if number} == {
        (JobKind.GENERATION, "poisoned"): 1,
        (JobKind.GENERATION, "out_of_memory"): 2,
    }
    assert {kind for kind, code in counted.failed if code == "poisoned"} == set(JobKind)
    assert counted.jobs[JobKind.GENERATION, JobStatus.FAILED] == 3
