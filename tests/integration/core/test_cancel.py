"""Whoever cancels a job sees it end: in line, while it runs, and whatever its run comes to meanwhile."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from core.domain.errors import OwnershipLost
from core.domain.job import JobStatus, Progress
from core.services import job as job_service
from core.services import run as run_service
from core.services.run import Claim, Pulse
from tests.job_bench import JobBench


def test_cancel_ends_a_queued_job_at_once_and_asks_a_running_one(bench: JobBench) -> None:
    queued = bench.submit()
    assert bench.cancel(queued.id).status == JobStatus.CANCELED
    running = bench.submit()
    claim = bench.must_claim()
    assert job_service.shown_status(bench.cancel(running.id)) is JobStatus.CANCELING
    with bench.database.transaction() as session:
        beats = [(claim, Progress(1, 4, "denoising"))]
        assert run_service.heartbeat(session, beats, lease_seconds=30) == [Pulse.CANCELED]
    with bench.database.transaction() as session:
        run_service.mark_canceled(session, claim)
    assert bench.get(running.id).status == JobStatus.CANCELED
    assert bench.get(running.id).progress_step == 1


def test_cancel_of_a_finished_job_changes_nothing(bench: JobBench) -> None:
    job = bench.submit()
    bench.finish(bench.must_claim())
    assert bench.cancel(job.id).status == JobStatus.SUCCEEDED


def test_a_dead_run_whose_cancel_was_asked_for_is_canceled(bench: JobBench) -> None:
    job = bench.submit()
    bench.must_claim(lease_seconds=0)
    bench.cancel(job.id)
    bench.sweep()
    assert bench.get(job.id).status == JobStatus.CANCELED


@pytest.mark.parametrize(
    "put_back",
    [
        lambda session, claim: run_service.give_back(session, claim, delay=timedelta(0)),
        lambda session, claim: run_service.fail_unexpectedly(session, claim, RuntimeError("who knows")),
    ],
    ids=["given back", "failed"],
)
def test_a_run_that_ends_early_after_its_cancel_was_asked_for_is_canceled(
    bench: JobBench, put_back: Callable[[Session, Claim], None]
) -> None:
    """Nobody would claim it from the line, and nobody would end it there."""
    job = bench.submit()
    claim = bench.must_claim()
    bench.cancel(job.id)
    with bench.database.transaction() as session:
        put_back(session, claim)
    ended = bench.get(job.id)
    assert (ended.status, ended.error_code) == (JobStatus.CANCELED, None)
    assert ended.completed_at is not None


def test_a_run_whose_job_is_gone_has_lost_it(bench: JobBench) -> None:
    job = bench.submit()
    claim = bench.must_claim()
    bench.execute("DELETE FROM job WHERE id = :id", id=job.id)
    with bench.database.transaction() as session, pytest.raises(OwnershipLost):
        run_service.give_back(session, claim, delay=timedelta(0))
