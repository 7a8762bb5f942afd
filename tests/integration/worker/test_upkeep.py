"""The clockwork keeps the loop turning, whatever was missed or broke off."""

import dataclasses
import itertools
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from core.domain.evaluation import Decision
from core.domain.job import MAX_CRASHES, JobStatus
from core.infra.database import Database
from core.infra.object_store import ObjectStore, StoredObject
from core.infra.settings import Settings
from core.infra.table import ModelUpdate
from core.infra.task_queue import TaskQueue
from core.services import census, model_update, upkeep
from tests.learning_bench import LearningBench
from worker.handler import upkeep as handler
from worker.handler.upkeep import _BUCKET_SECONDS, _PART_SECONDS, _TIDY_SECONDS, Housekeeping, end, tick
from worker.runtime import Runtime


class Clock:
    """Ticks over a learning bench, and tidies."""

    def __init__(self, settings: Settings, database: Database, store: ObjectStore, queue: TaskQueue) -> None:
        self.loop = LearningBench(database, queue, settings)
        self.runtime = Runtime(self.loop.settings, database, store, queue, worker_id="upkeep")
        self.counts = itertools.count()

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            tick(self.runtime, count=next(self.counts))
        Housekeeping(self.runtime).tidy()

    def count(self, table: str, condition: str) -> int:
        with self.loop.database.transaction() as session:
            return int(session.execute(text(f"SELECT count(*) FROM {table} WHERE {condition}")).scalar_one())

    def updates(self) -> list[ModelUpdate]:
        with self.loop.database.transaction() as session:
            return session.query(ModelUpdate).order_by(ModelUpdate.created_at).all()


@pytest.fixture
def clock(settings: Settings, database: Database, store: ObjectStore, queue: TaskQueue) -> Clock:
    return Clock(settings, database, store, queue)


def test_what_no_request_started_the_clock_does_and_what_no_worker_ended_too(clock: Clock) -> None:
    clock.loop.choose_many(6)
    clock.tick()
    [update] = clock.updates()
    assert update.trigger == "policy"
    clock.loop.ends(update.job_id, JobStatus.FAILED, "It broke.")
    clock.loop.choose_many(6)
    clock.tick(5)
    first, second = clock.updates()
    assert (first.status, first.outcome_reason, second.status) == ("failed", "It broke.", "planned")


def test_a_worker_that_dies_again_and_again_does_not_hold_the_loop(clock: Clock) -> None:
    clock.loop.choose_many(6)
    clock.tick()
    for _ in range(MAX_CRASHES):
        clock.loop.execute("UPDATE job SET run_after = now() WHERE kind = 'model_update'")
        clock.loop.claim()
        clock.loop.execute("UPDATE job SET lease_expires_at = now() WHERE status = 'running'")
        clock.tick()
    [update] = clock.updates()
    assert update.status == "failed"
    assert (update.outcome_reason or "").startswith(f"Its worker died or hung {MAX_CRASHES} times")


def test_what_was_taken_back_is_replaced_on_the_clock(clock: Clock) -> None:
    clock.loop.champion()
    clock.loop.withdraw("user-1")
    clock.tick(5)
    tainted, clean = clock.updates()
    assert (clean.trigger, clean.replaces_update_id) == ("withdrawal", tainted.id)
    clock.loop.finish(clock.loop.claim(), Decision.PROMOTE)
    clock.tick(5)
    assert clock.updates()[0].clean_by is None


def test_files_that_hold_what_was_withdrawn_go_once_they_serve_nobody(clock: Clock) -> None:
    clock.loop.champion()
    [tainted] = clock.updates()
    key = f"job/{tainted.job_id}/1/checkpoint/4/state"
    clock.runtime.store.put(key, b"weights", content_type="x")
    clock.loop.withdraw("user-1")
    clock.tick(31)
    assert clock.updates()[0].erased_at is None and clock.runtime.store.size(key) is not None
    clock.loop.finish(clock.loop.claim(), Decision.PROMOTE)
    clock.tick(31)
    tainted, clean = clock.updates()
    assert tainted.erased_at is not None and clock.runtime.store.size(key) is None
    assert clean.erased_at is None
    assert clock.loop.adapter(tainted.id).stage == "retired"


def test_pictures_outlive_their_retention_while_somebodys_word_on_them_stands(clock: Clock) -> None:
    clock.loop.champion()
    judged = clock.count("job", "kind = 'generation'")
    clock.loop.execute("UPDATE job SET completed_at = now() - interval '1 year' WHERE kind = 'generation'")
    clock.tick(31)
    assert clock.count("job", "kind = 'generation'") == judged
    withdrawn = clock.loop.withdraw("user-1").withdrawn
    assert withdrawn
    clock.tick(30)
    assert clock.count("job", "kind = 'generation'") == judged - 2 * withdrawn
    assert clock.count("user_feedback", "withdrawn_at IS NOT NULL") == 0
    [update] = clock.updates()[:1]
    assert update.taken_back_at is not None


def test_the_housekeeping_goes_on_at_once_while_there_is_more_that_is_old(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_OLD_BATCH", 2)
    with clock.loop.database.transaction() as session:
        for number in range(5):
            clock.loop.draw(session, f"star {number}")
    clock.loop.execute("UPDATE job SET completed_at = now() - interval '1 year'")
    housekeeping, left, waits = Housekeeping(clock.runtime), [], []
    for _ in range(4):
        waits.append(housekeeping.tidy())
        left.append(clock.count("job", "true"))
    assert left == [3, 1, 0, 0]
    assert waits == [0.0, 0.0, 0.0, _TIDY_SECONDS]


def test_the_housekeeping_goes_through_the_bucket_part_by_part(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    housekeeping, store = Housekeeping(clock.runtime), clock.runtime.store
    assert housekeeping.look() == _PART_SECONDS, "who knows what lies before the place where it began"
    assert housekeeping.look() == _BUCKET_SECONDS, "it is empty"
    store.put("job/x", b"x", content_type="x")
    assert [housekeeping.look(), housekeeping.look()] == [_PART_SECONDS, _BUCKET_SECONDS]
    closed = clock.runtime.settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})
    clock.runtime.store = ObjectStore(closed)
    assert housekeeping.look() == _TIDY_SECONDS, "the store is away"


def test_the_housekeeping_begins_anywhere_and_goes_on_at_the_beginning(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what lies at the end of a large bucket would stay where upkeep is often started again."""
    seen: list[str] = []

    def page(*, after: str, limit: int) -> Sequence[StoredObject]:
        found = ObjectStore.page(clock.runtime.store, after=after, limit=1)
        seen.extend(each.key for each in found)
        return found

    for key in ("dataset/x", "job/1", "job/3", "tenant/x"):
        clock.runtime.store.put(key, b"x", content_type="x")
    monkeypatch.setattr(clock.runtime.store, "page", page)
    monkeypatch.setattr(handler, "anywhere", lambda: "job/2")
    housekeeping = Housekeeping(clock.runtime)
    while housekeeping.look() == _PART_SECONDS:
        pass
    assert seen == ["job/3", "tenant/x", "dataset/x", "job/1", "job/3", "tenant/x"]


def test_one_broken_policy_does_not_stop_the_others(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []

    def consider(_: object, *, tenant_id: object, **__: object) -> None:
        looked.append(tenant_id)
        raise ValueError("a policy of an older form")

    clock.loop.choose_many(1)
    other = LearningBench(clock.loop.database, clock.loop.queue, clock.loop.settings)
    other.choose_many(1)
    monkeypatch.setattr(model_update, "consider", consider)
    clock.tick()
    assert set(looked) == {clock.loop.tenant_id, other.tenant_id}


def test_who_gets_through_a_round_is_alive_until_it_ends_or_is_not_seen_for_long(clock: Clock) -> None:
    def alive() -> tuple[int, bool]:
        with clock.loop.database.transaction() as session:
            return census.take(session).workers["upkeep"], upkeep.lives_on(session, host="here")

    def age(interval: str) -> None:
        with clock.loop.database.transaction() as session:
            session.execute(text(f"UPDATE upkeep_presence SET seen_at = now() - interval '{interval}'"))

    clock.runtime = dataclasses.replace(clock.runtime, worker_id="here:1:ab")
    assert alive() == (0, False)
    clock.tick()
    assert alive() == (1, True)
    age("31 seconds")
    assert alive() == (0, False)
    clock.tick()
    assert alive() == (1, True)
    end(clock.runtime)
    assert alive() == (0, False)
    assert clock.count("upkeep_presence", "true") == 0
    tick(dataclasses.replace(clock.runtime, worker_id="there:1:cd"), count=1)
    assert alive() == (1, False)
    age("61 minutes")
    clock.counts = itertools.count()
    clock.tick()
    assert clock.count("upkeep_presence", "id LIKE 'there:%'") == 0
