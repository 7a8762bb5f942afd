"""The heartbeat against the real Postgres: one statement for all that a worker holds."""

from sqlalchemy import text

from core.domain.job import Progress
from core.services import run as run_service
from core.services.run import Pulse
from tests.job_bench import JobBench


def test_one_statement_keeps_all_leases_and_waits_for_no_lock(bench: JobBench) -> None:
    jobs = [bench.submit() for _ in range(3)]
    claims = [bench.must_claim(lease_seconds=1) for _ in jobs]
    with bench.database.transaction() as other:
        other.execute(text("SELECT 1 FROM job WHERE id = :id FOR UPDATE"), {"id": claims[1].job_id})
        with bench.database.transaction() as session:
            beats = [(claim, Progress(step, 9, "denoising") if step else None) for step, claim in enumerate(claims)]
            pulses = run_service.heartbeat(session, beats, lease_seconds=30)
    assert pulses == [Pulse.KEPT, Pulse.UNKNOWN, Pulse.KEPT]
    rows = [bench.get(claim.job_id) for claim in claims]
    assert [(row.progress_step, row.progress_steps, row.progress_message) for row in rows] == [
        (0, 0, ""), (0, 0, ""), (2, 9, "denoising"),
    ]  # fmt: skip
    bench.execute("UPDATE job SET lease_expires_at = lease_expires_at - interval '2 seconds'")
    assert bench.sweep() == 1, "only what was locked was not renewed"
