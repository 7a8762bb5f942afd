"""Jobs go first to a worker that has their base model in memory, and nobody waits long for it: on the real Postgres."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text

from core.domain.job import JobKind, JobPriority
from core.infra.database import Database
from core.services import run as run_service
from core.services.tenant import create_tenant
from tests.job_bench import KINDS, JobBench, add_model

BOUND = 600.0


@pytest.fixture
def other_id(database: Database, tenant_id: UUID) -> UUID:
    """A second base model."""
    return add_model(database, tenant_id, name="other")


def take(bench: JobBench, *held: UUID, seconds: float = BOUND, worker_id: str = "worker") -> UUID | None:
    """The job that a worker gets which holds these models."""
    with bench.database.transaction() as session:
        claim = run_service.claim_next(
            session, kinds=KINDS, worker_id=worker_id, lease_seconds=30, held=held, affinity_seconds=seconds
        )
    return None if claim is None else claim.job_id


def let_pass(bench: JobBench, *, seconds: float) -> None:
    """Make every waiting job older."""
    age = "UPDATE job SET created_at = created_at - make_interval(secs => :seconds) WHERE status = 'queued'"
    bench.execute(age, seconds=seconds)


def test_a_held_model_goes_before_the_first_in_line_and_in_its_own_order(bench: JobBench, other_id: UUID) -> None:
    cold = [bench.submit(base_model_id=other_id).id for _ in range(2)]
    warm = [bench.submit().id for _ in range(3)]
    taken = [take(bench, bench.model_id) for _ in range(6)]
    assert taken == [*warm, *cold, None], "and where nothing of it is left, the line goes on"


def test_a_worker_may_hold_several(bench: JobBench, other_id: UUID) -> None:
    both = [bench.submit(base_model_id=model).id for model in (other_id, bench.model_id, other_id)]
    assert [take(bench, bench.model_id, other_id) for _ in range(3)] == both


def test_who_has_waited_for_the_bound_is_passed_no_more(bench: JobBench, other_id: UUID) -> None:
    old = bench.submit(base_model_id=other_id).id
    let_pass(bench, seconds=BOUND)
    young, warm = bench.submit(base_model_id=other_id).id, bench.submit().id
    assert [take(bench, bench.model_id) for _ in range(3)] == [old, warm, young]


def test_a_steady_stream_starves_nobody(bench: JobBench, other_id: UUID) -> None:
    cold = bench.submit(base_model_id=other_id).id
    taken = []
    for _ in range(5):
        bench.submit()
        bench.submit()  # more than one worker can do
        taken.append(take(bench, bench.model_id))
        let_pass(bench, seconds=BOUND / 4)
    assert taken[-1] == cold


def test_two_workers_with_different_models_split_the_work(bench: JobBench, other_id: UUID) -> None:
    mine = [bench.submit().id]
    yours = [bench.submit(base_model_id=other_id).id for _ in range(2)]
    mine += [bench.submit().id for _ in range(2)]
    yours += [bench.submit(base_model_id=other_id).id]
    taken = [(take(bench, other_id), take(bench, bench.model_id)) for _ in range(3)]
    assert taken == list(zip(yours, mine, strict=True))


def test_workers_that_prefer_never_claim_the_same_job_and_leave_none(bench: JobBench, other_id: UUID) -> None:
    jobs = {bench.submit(base_model_id=model).id for _ in range(15) for model in (bench.model_id, other_id)}
    barrier = threading.Barrier(6)

    def work(number: int) -> list[UUID]:
        held = (bench.model_id, other_id)[number % 2]
        barrier.wait()
        return list(iter(lambda: take(bench, held, worker_id=f"worker-{number}"), None))

    with ThreadPoolExecutor(6) as pool:
        claimed = [job for taken in pool.map(work, range(6)) for job in taken]
    assert (len(claimed), set(claimed)) == (30, jobs)


@pytest.mark.parametrize("seconds", [0.0, BOUND])
def test_who_holds_nothing_or_does_not_prefer_keeps_the_line(bench: JobBench, other_id: UUID, seconds: float) -> None:
    line = [bench.submit(base_model_id=model).id for model in (other_id, bench.model_id, other_id)]
    held = [] if seconds else [bench.model_id]
    assert [take(bench, *held, seconds=seconds) for _ in range(3)] == line


def test_a_job_whose_model_is_held_passes_no_more_urgent_one_of_its_tenant(bench: JobBench, other_id: UUID) -> None:
    later = bench.submit(priority=JobPriority.LOW).id
    first = bench.submit(base_model_id=other_id).id
    assert [take(bench, bench.model_id) for _ in range(2)] == [first, later]


def test_only_what_is_ready_and_of_the_workers_kinds_is_preferred(bench: JobBench, other_id: UUID) -> None:
    cold = bench.submit(base_model_id=other_id).id
    bench.submit(kind=JobKind.TRAINING)
    bench.cancel(bench.submit().id)
    resting = bench.submit().id
    bench.execute("UPDATE job SET run_after = now() + interval '1 hour' WHERE id = :id", id=resting)
    assert [take(bench, bench.model_id) for _ in range(2)] == [cold, None]


@pytest.fixture
def locked(bench: JobBench) -> Iterator[UUID]:
    """A job that another worker takes just now."""
    job_id = bench.submit().id
    with bench.database.transaction() as session:
        session.execute(text("SELECT 1 FROM job WHERE id = :id FOR UPDATE"), {"id": job_id})
        yield job_id


def test_nobody_waits_for_a_job_that_another_takes(bench: JobBench, other_id: UUID, locked: UUID) -> None:
    cold, warm = bench.submit(base_model_id=other_id).id, bench.submit().id
    assert [take(bench, bench.model_id) for _ in range(3)] == [warm, cold, None]
    assert locked not in {warm, cold}


def test_another_tenants_job_is_passed_no_longer_than_ones_own(bench: JobBench, other_id: UUID) -> None:
    with bench.database.transaction() as session:
        stranger = create_tenant(session, name="stranger").id
    theirs = bench.submit(base_model_id=other_id, tenant_id=stranger).id
    ours = [bench.submit().id for _ in range(3)]
    assert take(bench, bench.model_id) == ours[0]
    let_pass(bench, seconds=BOUND)
    assert [take(bench, bench.model_id) for _ in range(3)] == [theirs, *ours[1:]]
