"""Which checkpoints of a training stay."""

from core.services import checkpoint as checkpoints
from core.services import training as trainings
from core.services.run import Claim
from tests.job_bench import JobBench


def keep(bench: JobBench, claim: Claim, step: int) -> list[tuple[int, int]]:
    """Record a checkpoint, forget the older ones; step and claim epoch of those that are left."""
    with bench.database.transaction() as session:
        trainings.record_checkpoint(session, claim, step=step, object_prefix=f"{step}", manifest_sha256="0" * 64)
        checkpoints.forget_older(session, claim, keep=2)
        stored = trainings.newest_checkpoints(session, job_id=claim.job_id)
        return [(each.step, each.claim_epoch) for each in stored]


def test_a_run_that_began_anew_keeps_its_own(bench: JobBench) -> None:
    job = bench.submit()
    first = bench.must_claim(lease_seconds=0)
    keep(bench, first, 480)
    assert keep(bench, first, 500) == [(500, 1), (480, 1)]
    bench.sweep()
    bench.make_ready(job.id)
    second = bench.must_claim()
    assert keep(bench, second, 10) == [(500, 1), (10, 2)]
    assert keep(bench, second, 20) == [(20, 2), (10, 2)]
    assert keep(bench, second, 30) == [(30, 2), (20, 2)]
