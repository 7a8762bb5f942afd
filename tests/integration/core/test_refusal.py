"""Who is refused is told the truth: which limit it was, and when to come back. The world is moved, nobody waits."""

from uuid import UUID

import pytest
from sqlalchemy import text

from core.domain.errors import QueueFull, QuotaExceeded, Refused
from core.domain.job import JobKind, JobPriority, WorkerKind
from core.domain.limit import Limits
from core.services import run as run_service
from core.services.limit import set_limits
from core.services.run import Claim
from core.services.tenant import create_tenant
from tests.job_bench import JobBench


class Crew:
    """Workers of so many slots, who take exactly as long for a job as it was expected to take."""

    def __init__(self, bench: JobBench, *, slots: int) -> None:
        self._bench, self._slots = bench, slots
        self._claims: dict[UUID, Claim] = {}
        with bench.database.transaction() as session:
            run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=slots)

    def work(self, seconds: float) -> None:
        """Let so much time pass."""
        self._fill()
        while self._claims and (next_end := min(self._rests()))[0] <= seconds:
            rest, job_id = next_end
            self._pass(rest)
            self._bench.finish(self._claims.pop(job_id))
            self._fill()
            seconds -= rest
        self._pass(seconds)

    def _fill(self) -> None:
        while len(self._claims) < self._slots and (claim := self._bench.claim()):
            self._claims[claim.job_id] = claim

    def _rests(self) -> list[tuple[float, UUID]]:
        query = text(
            "SELECT greatest(cost_seconds - extract(epoch FROM now() - claimed_at), 0) AS rest, id FROM job "
            "WHERE status = 'running'"
        )
        with self._bench.database.transaction() as session:
            return [(float(row.rest), row.id) for row in session.execute(query)]

    def _pass(self, seconds: float) -> None:
        ago = "UPDATE job SET claimed_at = claimed_at - make_interval(secs => :s) WHERE status = 'running'"
        self._bench.execute(ago, s=seconds)


@pytest.fixture
def other(bench: JobBench) -> UUID:
    with bench.database.transaction() as session:
        return create_tenant(session, name="other").id


def make_a_line(bench: JobBench, other: UUID) -> None:
    """Each of the two has four jobs of 50 seconds, and they take turns; the other's first one runs."""
    for _ in range(4):
        for tenant_id in (other, bench.tenant_id):
            bench.submit(work_units=5000.0, tenant_id=tenant_id)


def refusal(bench: JobBench, limits: Limits, *, work_units: float = 5000.0) -> Refused:
    with pytest.raises(Refused) as refused:
        bench.submit(work_units=work_units, limits=limits)
    return refused.value


FEW = {
    "one has to start": Limits(queued_jobs=4),
    "three have to start": Limits(queued_jobs=2),
    "two of 50 s have to start": Limits(queued_seconds=160),
    "all have to start": Limits(queued_seconds=20),
    "first one, and then two": Limits(queued_jobs=4, queued_seconds=160),
    "anybody's has to start": Limits(queued_jobs_of_all=7),
}


@pytest.mark.parametrize("few", FEW.values(), ids=FEW)
def test_there_is_room_at_the_time_that_was_told_and_not_before(bench: JobBench, other: UUID, few: Limits) -> None:
    make_a_line(bench, other)
    crew = Crew(bench, slots=1)
    crew.work(10)
    told = refusal(bench, few).retry_after_seconds
    crew.work(told - 5)
    assert refusal(bench, few).retry_after_seconds <= 5
    crew.work(5)
    bench.submit(work_units=5000.0, limits=few)


@pytest.mark.parametrize(
    "few",
    [Limits(queued_jobs=3), Limits(queued_jobs=1), Limits(queued_seconds=110), Limits(queued_jobs_of_all=7)],
)
def test_there_is_room_at_that_time_where_several_work(bench: JobBench, other: UUID, few: Limits) -> None:
    make_a_line(bench, other)
    bench.submit(work_units=2500.0, tenant_id=other)
    crew = Crew(bench, slots=2)
    crew.work(10)
    told = refusal(bench, few).retry_after_seconds
    assert told < 200, "the whole line takes no longer"
    crew.work(told)
    bench.submit(work_units=5000.0, limits=few)


def test_an_urgent_job_that_starts_first_leaves_the_long_ones_waiting(bench: JobBench) -> None:
    crew = Crew(bench, slots=1)
    bench.submit(work_units=3000.0)
    crew.work(0)
    bench.submit(work_units=10_000.0)
    bench.submit(work_units=1000.0, priority=JobPriority.HIGH)
    told = refusal(bench, Limits(queued_seconds=110), work_units=500.0).retry_after_seconds
    assert told == pytest.approx(30, abs=1), "then the short one starts: 100 s are left, and 5 more are allowed"


def test_of_two_limits_the_one_that_holds_for_longer_says_when(bench: JobBench) -> None:
    Crew(bench, slots=1)
    bench.submit()
    refused = refusal(bench, Limits(queued_jobs=1, gpu_seconds_per_day=20))
    assert isinstance(refused, QuotaExceeded)
    assert refused.retry_after_seconds == 24 * 3600


def test_who_may_have_nothing_waiting_is_not_told_to_come_soon(bench: JobBench) -> None:
    Crew(bench, slots=1)
    with bench.database.transaction() as session:
        set_limits(session, tenant_id=bench.tenant_id, changes={"queued_jobs": 0.0})
    assert refusal(bench, Limits()).retry_after_seconds == 600


def test_the_end_of_the_line_of_all_says_where_it_is_and_when_a_job_of_any_line_starts(
    bench: JobBench, other: UUID
) -> None:
    few = Limits(queued_jobs_of_all=2)
    bench.submit(work_units=4000.0, kind=JobKind.TRAINING, tenant_id=other)
    with bench.database.transaction() as session:
        run_service.claim_next(session, kinds=[JobKind.TRAINING], worker_id="trainer", lease_seconds=30)
    for _ in range(2):
        bench.submit(limits=few, kind=JobKind.TRAINING, tenant_id=other)
    nobody_works = refusal(bench, few)
    assert nobody_works.message == "2 jobs of all tenants are waiting, as many as may; yours would be one too many."
    assert nobody_works.retry_after_seconds == 600
    Crew(bench, slots=1)
    assert refusal(bench, few).retry_after_seconds == 600, "no picture waits that could start"
    with bench.database.transaction() as session:
        run_service.say_alive(session, worker_id="trainer", kind=WorkerKind.TRAINING, slots=1)
    assert refusal(bench, few).retry_after_seconds == pytest.approx(40, abs=1)


def test_a_job_that_no_day_has_room_for_is_told_so(bench: JobBench) -> None:
    with pytest.raises(QuotaExceeded, match=r"This job alone .* about 500 seconds") as refused:
        bench.submit(work_units=50_000.0, limits=Limits(gpu_seconds_per_day=60))
    assert "at most 60 a day are yours" in refused.value.message


def test_a_job_that_is_too_large_to_wait_beside_others_is_told_when_none_of_them_waits(bench: JobBench) -> None:
    crew = Crew(bench, slots=1)
    few = Limits(queued_seconds=60)
    for _ in range(3):
        bench.submit(work_units=1000.0)
    crew.work(0)
    with pytest.raises(
        QueueFull, match=r"This job alone .* about 500 seconds.* once none of yours is waiting"
    ) as refused:
        bench.submit(work_units=50_000.0, limits=few)
    crew.work(refused.value.retry_after_seconds)
    bench.submit(work_units=50_000.0, limits=few)
