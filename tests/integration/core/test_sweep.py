"""Many jobs are swept in one transaction, by any number of upkeeps at once."""

from uuid import uuid4

from structlog.testing import capture_logs

from core.domain.job import MAX_CRASHES, WORKER_OF_KIND, JobKind
from core.services.tenant import create_tenant
from tests.job_bench import JobBench


def test_the_accounts_of_tenants_are_written_in_one_order_by_every_sweep(
    bench: JobBench,
) -> None:
    """Else two upkeeps whose jobs are of the same tenants wait for each other's rows."""
    with bench.database.transaction() as session:
        tenants = sorted([bench.tenant_id, *(create_tenant(session, name=uuid4().hex).id for _ in range(2))])
    kinds = [JobKind.TRAINING, JobKind.GENERATION, JobKind.MODEL_UPDATE, JobKind.REGISTRATION]
    of_job = {}
    for tenant_id in reversed(tenants):
        for kind in kinds:
            of_job[str(bench.submit(tenant_id=tenant_id, kind=kind).id)] = (tenant_id, WORKER_OF_KIND[kind])
    for job_id in of_job:
        bench.execute(
            "UPDATE job SET status = 'running', claimed_at = now(), lease_expires_at = now() WHERE id = :id", id=job_id
        )
    with capture_logs() as said:
        assert bench.sweep() == len(of_job)
    assert {(each["status"], each["code"]) for each in said if each["event"] == "swept"} == {("queued", None)}
    order = [of_job[each["job_id"]] for each in said if each["event"] == "swept"]
    assert order == sorted(order)


def test_what_a_sweep_ends_is_logged_with_its_code(bench: JobBench) -> None:
    late, poison = bench.submit().id, bench.submit().id
    bench.execute("UPDATE job SET deadline_at = now() WHERE id = :id", id=late)
    bench.execute(
        "UPDATE job SET status = 'running', claimed_at = now(), lease_expires_at = now(), crash_count = :so_often "
        "WHERE id = :id",
        id=poison,
        so_often=MAX_CRASHES - 1,
    )
    with capture_logs() as said:
        bench.sweep()
    ends = {each["job_id"]: (each["status"], each["code"]) for each in said if each["event"] == "swept"}
    assert ends == {str(late): ("expired", "deadline_passed"), str(poison): ("failed", "poisoned")}
