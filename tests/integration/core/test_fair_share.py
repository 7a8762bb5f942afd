"""Tenants take turns, whatever each has waiting: on the real Postgres."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from uuid import UUID

import pytest

from core.domain.job import JobPriority, WorkerKind
from core.domain.limit import UNLIMITED
from core.infra.database import Database
from core.services import job as job_service
from core.services import run as run_service
from core.services.job import Idempotency
from core.services.limit import set_limits
from core.services.run import Claim
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


def work(bench: JobBench, claim: Claim) -> None:
    """End a job after the time that it was expected to take."""
    took = "UPDATE job SET claimed_at = now() - make_interval(secs => cost_seconds) WHERE id = :id"
    bench.execute(took, id=claim.job_id)
    bench.finish(claim)


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


def test_a_tenants_own_jobs_keep_their_order(bench: JobBench) -> None:
    own = [bench.submit(work_units=units).id for units in (500.0, 1.0, 50.0)]
    assert [bench.must_claim().job_id for _ in range(3)] == own


def test_a_burst_of_submits_gets_no_more_than_its_turns(bench: JobBench, others: list[UUID]) -> None:
    """Submits at the same instant do not see each other, and stand behind each other all the same."""
    for _ in range(5):
        bench.submit(tenant_id=others[0])
    with ThreadPoolExecutor(20) as clients:
        burst = list(clients.map(lambda _: bench.submit(), range(40)))
    assert len({job.place for job in burst}) == 40
    for _ in range(5):
        bench.submit(tenant_id=others[0])
    assert served(bench, 20).count(others[0]) in (9, 10)


def test_a_request_that_is_sent_often_takes_one_turn(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(10):
        bench.submit(tenant_id=others[0])
    once = Idempotency("key", "0" * 64)
    for _ in range(10):
        bench.submit(idempotency=once)
    bench.submit()
    assert served(bench, 4).count(bench.tenant_id) == 2


def test_who_comes_when_a_job_is_back_in_line_does_not_go_before_who_waited(
    bench: JobBench, others: list[UUID]
) -> None:
    first, *_ = [bench.submit() for _ in range(20)]
    bench.must_claim(lease_seconds=0)
    served(bench, 8)
    bench.sweep()
    late = bench.submit(tenant_id=others[0])
    bench.make_ready(first.id)
    assert bench.must_claim().job_id == first.id
    assert late.place == pytest.approx(bench.get(first.id).place + 9 * first.cost_seconds)


def test_shares_are_what_the_operator_says(bench: JobBench, others: list[UUID]) -> None:
    with bench.database.transaction() as session:
        set_limits(session, tenant_id=others[0], changes={"share": 3.0})
    for _ in range(20):
        bench.submit()
        bench.submit(tenant_id=others[0])
    first = served(bench, 20)
    assert first.count(others[0]) == pytest.approx(3 * first.count(bench.tenant_id), abs=3)


def test_a_tenants_urgent_job_takes_the_turn_of_its_others(bench: JobBench, others: list[UUID]) -> None:
    plain = [bench.submit().id for _ in range(3)]
    foreign = [bench.submit(tenant_id=others[0]).id for _ in range(5)]
    urgent = bench.submit(priority=JobPriority.HIGH).id
    order = [bench.must_claim().job_id for _ in range(9)]
    own = [job_id for job_id in order if job_id not in foreign]
    assert own == [urgent, *plain]
    turns = [job_id in foreign for job_id in order]
    assert turns[:8] == [False, True] * 4, "being in a hurry gained the tenant no turn"


def test_to_be_in_a_hurry_makes_no_turn_longer(bench: JobBench, others: list[UUID]) -> None:
    """Or else cheap jobs would hold turns that long ones take."""
    cheap = [bench.submit(work_units=1.0).id for _ in range(5)]
    for _ in range(10):
        bench.submit(work_units=100.0, tenant_id=others[0])
    long = [bench.submit(work_units=600.0, priority=JobPriority.HIGH).id for _ in range(5)]
    order = [bench.must_claim() for _ in range(13)]
    own = [claim.job_id for claim in order if claim.tenant_id == bench.tenant_id]
    assert own[:5] == cheap
    assert len(own) <= 7, "five that are nothing, and one long one for six of the others'"
    assert set(own[5:]) <= set(long)


def test_a_short_urgent_job_goes_before_long_ones(bench: JobBench, others: list[UUID]) -> None:
    long = [bench.submit(work_units=100.0).id for _ in range(3)]
    urgent = bench.submit(work_units=10.0, priority=JobPriority.HIGH).id
    assert [bench.must_claim().job_id for _ in range(4)] == [urgent, *long]


def test_a_job_that_can_wait_goes_last_of_its_tenant(bench: JobBench, others: list[UUID]) -> None:
    later = bench.submit(priority=JobPriority.LOW).id
    rest = [bench.submit().id for _ in range(3)]
    foreign = bench.submit(tenant_id=others[0], priority=JobPriority.LOW).id
    order = [bench.must_claim().job_id for _ in range(5)]
    assert [job_id for job_id in order if job_id != foreign] == [*rest, later]
    assert order.index(foreign) <= 1, "to be patient costs nothing beside other tenants"


def test_an_urgent_suspect_takes_nobodys_turn_from_a_busy_worker(bench: JobBench) -> None:
    plain = bench.submit()
    urgent = bench.submit(priority=JobPriority.HIGH)
    for _ in range(2):
        assert bench.must_claim(lease_seconds=0).job_id == urgent.id
        bench.sweep()
        bench.make_ready(urgent.id)
    assert bench.claim(takes_suspects=False) is None
    assert bench.get(plain.id).place == urgent.place, "passed once, and not again by a claim that took nothing"
    assert bench.must_claim().job_id == urgent.id
    assert bench.must_claim().job_id == plain.id


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


def test_who_asks_for_long_jobs_one_by_one_gets_no_more_time(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(40):
        bench.submit(work_units=100.0, tenant_id=others[0])
    bench.submit(work_units=1000.0)
    turns = []
    for turn in range(25):
        claim = bench.must_claim()
        work(bench, claim)
        if claim.tenant_id == bench.tenant_id:
            turns.append(turn)
            bench.submit(work_units=1000.0)
    assert len(turns) >= 2
    assert all(10 <= after - before <= 12 for before, after in pairwise(turns))


def test_what_one_did_while_nobody_else_asked_is_not_held_against_anybody(bench: JobBench, others: list[UUID]) -> None:
    bench.submit(work_units=1000.0)
    work(bench, bench.must_claim())
    late, own = bench.submit(tenant_id=others[0]), bench.submit()
    assert late.place == own.place == pytest.approx(10, abs=1)
    assert [bench.must_claim().job_id for _ in range(2)] == [late.id, own.id]


def test_a_job_that_was_canceled_in_line_costs_no_turn(bench: JobBench, others: list[UUID]) -> None:
    for _ in range(5):
        bench.submit(tenant_id=others[0])
    for _ in range(5):
        bench.cancel(bench.submit(work_units=1000.0).id)
    mine = bench.submit()
    assert mine.id in [bench.must_claim().job_id for _ in range(2)]


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
    assert outlook.estimated_wait_seconds == pytest.approx(flood[0].cost_seconds / 4, abs=0.05)
    assert last.queue_position == 40


def test_the_outlook_knows_who_is_in_a_hurry(bench: JobBench, others: list[UUID]) -> None:
    plain = [bench.submit() for _ in range(10)]
    with bench.database.transaction() as session:
        accepted = job_service.submit(
            session, bench.submission(priority=JobPriority.HIGH), queue=bench.queue, limits=UNLIMITED
        )
    assert accepted.outlook.queue_position == 0
    with bench.database.transaction() as session:
        assert job_service.outlook(session, accepted.job).queue_position == 0
        assert [job_service.outlook(session, job).queue_position for job in plain[:3]] == [1, 2, 3]
