"""Tenants take turns, whatever each has waiting: on the real Postgres."""

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

import pytest

from core.domain.job import WorkerKind
from core.infra.database import Database
from core.services import job as job_service
from core.services import run as run_service
from core.services.tenant import create_tenant
from tests.job_bench import JobBench


@pytest.fixture
def others(database: Database) -> list[UUID]:
    """Two more tenants."""
    with database.transaction() as session:
        return [create_tenant(session, name=f"other-{number}").id for number in range(2)]


def served(bench: JobBench, count: int) -> list[UUID]:
    """Whose jobs a worker gets, one after the other, each done before the next is claimed."""
    tenants = []
    for _ in range(count):
        claim = bench.must_claim()
        tenants.append(claim.tenant_id)
        bench.finish(claim)
    return tenants


def runs_of(tenants: Sequence[UUID]) -> list[int]:
    """How many of the same come in a row."""
    return [len(list(same)) for _, same in groupby(tenants)]


def test_who_comes_late_with_little_does_not_wait_for_who_came_with_much(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(50):
        bench.submit()
    assert set(served(bench, 5)) == {bench.tenant_id}
    late = bench.submit(tenant_id=others[0])
    first = served(bench, 3)
    assert first.count(others[0]) == 1, "the line before it is one job long"
    with bench.database.transaction() as session:
        assert job_service.get(session, tenant_id=others[0], job_id=late.id).status == "succeeded"


def test_tenants_that_always_have_work_take_turns(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(12):
        bench.submit()
    for tenant in others:
        for _ in range(6):
            bench.submit(tenant_id=tenant)
    early = served(bench, 18)
    assert [early.count(tenant) for tenant in (bench.tenant_id, *others)] == [6, 6, 6]
    assert max(runs_of(early)) <= 2
    assert set(served(bench, 6)) == {bench.tenant_id}


def test_shares_are_of_time_and_not_of_jobs(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(4):
        bench.submit(work_units=400.0)
    for _ in range(20):
        bench.submit(work_units=100.0, tenant_id=others[0])
    first = served(bench, 10)
    assert first.count(others[0]) == 4 * first.count(bench.tenant_id)


def test_a_tenants_own_jobs_keep_their_order_and_priority_goes_before_place(
    bench: JobBench, others: list[UUID]
) -> None:
    own = [bench.submit(work_units=units).id for units in (500.0, 1.0, 50.0)]
    bench.submit(tenant_id=others[0], priority=1)
    claimed = [bench.must_claim() for _ in range(4)]
    assert [claim.job_id for claim in claimed[:3]] == own
    assert claimed[3].tenant_id == others[0]


def test_who_asks_one_by_one_is_served_at_every_other_turn(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(30):
        bench.submit()
    waits = []
    for _ in range(5):
        mine = bench.submit(tenant_id=others[0])
        for turn in range(4):
            claim = bench.must_claim()
            bench.finish(claim)
            if claim.job_id == mine.id:
                waits.append(turn)
                break
    assert len(waits) == 5
    assert max(waits) <= 1


def test_a_job_that_lost_its_worker_keeps_its_place(bench: JobBench, others: list[UUID]) -> None:
    first = bench.submit()
    for _ in range(5):
        bench.submit(tenant_id=others[0])
    bench.must_claim(lease_seconds=0)
    bench.sweep()
    bench.make_ready(first.id)
    assert bench.must_claim().job_id == first.id


def test_the_outlook_counts_only_who_is_really_ahead(bench: JobBench, others: list[UUID]) -> None:
    with bench.database.transaction() as session:
        run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=4)
    flood = [bench.submit() for _ in range(40)]
    late = bench.submit(tenant_id=others[0])
    with bench.database.transaction() as session:
        outlook = job_service.outlook(session, late)
        last = job_service.outlook(session, flood[-1])
    assert outlook.queue_position == 1
    assert outlook.estimated_wait_seconds == pytest.approx(flood[0].cost_seconds)
    assert last.queue_position == 40
