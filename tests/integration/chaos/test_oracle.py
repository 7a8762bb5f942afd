"""The oracle: silent where every promise was kept, and never where one was broken."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from chaos import transition
from chaos.oracle import (
    BROKEN_WORD,
    CHANGED,
    CHARGED,
    CROSSED,
    DUPLICATED,
    ERROR_500,
    FAILED,
    INCOMPLETE,
    LOST,
    PROMISES,
    SPARED,
    STALE,
    UNLAWFUL,
    examine,
)
from core.domain.adapter import AdapterManifest
from core.domain.base_model import ModelFamily
from core.domain.job import JobKind
from core.domain.outcome import Outcome
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.services.run import claim_next, finish, mark_canceled
from tests.job_bench import IMAGE, JobBench

FILE = b"a picture"


@pytest.fixture
def connection(settings: Settings) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        transition.install(connection)
        yield connection


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return ObjectStore(settings)


@pytest.fixture
def done(bench: JobBench, store: ObjectStore, connection: object) -> UUID:
    """A job of one picture whose first worker died, and that another finished."""
    job = bench.submit(plan={"num_images": 1})
    bench.must_claim(lease_seconds=0)
    bench.sweep()
    bench.make_ready(job.id)
    claim, key = bench.must_claim(), f"job/{job.id}/2/output/0.png"
    store.put(key, FILE, content_type="image/png")
    sha256 = hashlib.sha256(FILE).hexdigest()
    bench.finish(claim, replace(IMAGE, object_key=key, size_bytes=len(FILE), sha256=sha256))
    return job.id


def accepted(job_id: UUID, key: str = "key") -> dict[str, Any]:
    return {"event": "accepted", "job_id": str(job_id), "key": key}


def broken(connection: "psycopg.Connection[Any]", store: ObjectStore, *journal: dict[str, Any]) -> set[str]:
    return {promise for promise, count in examine(connection, store, journal).count().items() if count}


def test_of_kept_promises_nothing_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, done: UUID
) -> None:
    journal = [accepted(done), accepted(done), {"event": "refused", "status": 503, "body": ""}, {"event": "no answer"}]
    assert broken(connection, store, *journal) == set()


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        ("UPDATE job SET status = 'queued', completed_at = NULL", CHANGED),
        ("UPDATE job SET error_message = 'oh'", CHANGED),
        ("UPDATE artifact SET object_key = 'elsewhere'", CHANGED),
        ("UPDATE artifact SET created_at = created_at + interval '1 second'", CHANGED),
        ("DELETE FROM artifact; DELETE FROM job", LOST),
        ("UPDATE job SET claim_epoch = 3", STALE),
        ("UPDATE artifact SET claim_epoch = 1", STALE),
        ("UPDATE artifact SET object_key = 'nowhere'", INCOMPLETE),
        ("UPDATE artifact SET sha256 = repeat('0', 64)", INCOMPLETE),
        ("DELETE FROM artifact", CROSSED),
        ("UPDATE job SET status = 'canceled'", CROSSED),
        ("UPDATE job SET plan = plan || '{\"prompt\": \"a segfault\"}'", SPARED),
        ("UPDATE job SET status = 'failed', error_code = 'internal_error'", FAILED),
        ("UPDATE job SET status = 'expired', error_code = 'deadline_passed'", FAILED),
        ("UPDATE job SET plan = '{\"num_images\": 0}'", DUPLICATED),
        ("UPDATE job SET attempt = 1", CHARGED),
        ("INSERT INTO chaos_cancel SELECT id, completed_at - interval '20 seconds' FROM job", BROKEN_WORD),
        ("UPDATE chaos_transition SET before = 'queued' WHERE after = 'succeeded'", UNLAWFUL),
        ("UPDATE chaos_transition SET epoch = 9 WHERE before IS NULL", UNLAWFUL),
        (("INSERT INTO chaos_transition (job_id, before, after, epoch) "
         "SELECT id, 'running', 'failed', 2 FROM job"), DUPLICATED),
    ],
)  # fmt: skip
def test_what_the_system_must_never_do_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, done: UUID, statement: str, promise: str
) -> None:
    connection.execute(statement.encode())
    assert promise in broken(connection, store, accepted(done))


def test_a_job_that_never_ends_is_lost(
    connection: "psycopg.Connection[Any]", store: ObjectStore, bench: JobBench
) -> None:
    waiting = bench.submit(plan={"num_images": 1}).id
    assert broken(connection, store, accepted(waiting)) == {LOST}
    assert broken(connection, store, accepted(waiting), accepted(uuid4(), key="another")) == {LOST}


def test_a_job_of_which_no_client_was_told_is_one_too_many(
    connection: "psycopg.Connection[Any]", store: ObjectStore, done: UUID, bench: JobBench
) -> None:
    bench.cancel(bench.submit(plan={"num_images": 1}).id)
    assert broken(connection, store, accepted(done)) == {DUPLICATED}


def test_what_was_to_stop_while_it_ran_may_still_end_for_a_moment(
    connection: "psycopg.Connection[Any]", store: ObjectStore, bench: JobBench
) -> None:
    job, other = bench.submit(plan={"num_images": 0}), bench.submit(plan={"num_images": 0})
    first, second = bench.must_claim(), bench.must_claim()
    bench.cancel(job.id)
    bench.cancel(other.id)
    bench.finish(first)
    with bench.database.transaction() as session:
        mark_canceled(session, second)
    findings = examine(connection, store, [accepted(job.id, "one"), accepted(other.id, "other")])
    assert findings.broken == []
    assert findings.stopped == {"succeeded": 1, "canceled": 1}


@pytest.mark.parametrize(
    ("entry", "promise"),
    [
        ({"event": "refused", "status": 500, "body": "oh"}, ERROR_500),
        ({"event": "refused", "status": 422, "body": "no"}, BROKEN_WORD),
        ({"event": "violation", "what": "one key gave two jobs"}, BROKEN_WORD),
        (accepted(UUID(int=7), key="key"), DUPLICATED),
        ({"event": "canceled", "job_id": str(UUID(int=7)), "status": "canceled"}, BROKEN_WORD),
    ],
)
def test_what_clients_must_never_be_told_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, done: UUID, entry: dict[str, Any], promise: str
) -> None:
    assert promise in broken(connection, store, accepted(done, key="key"), entry)


def test_an_innocent_that_was_taken_for_poison_is_no_broken_promise(
    connection: "psycopg.Connection[Any]", store: ObjectStore, done: UUID
) -> None:
    connection.execute("DELETE FROM artifact; UPDATE job SET status = 'failed', error_code = 'poisoned'")
    assert FAILED not in broken(connection, store, accepted(done))


@pytest.fixture
def trained(connection: "psycopg.Connection[Any]", bench: JobBench, store: ObjectStore) -> UUID:
    """A training that succeeded."""
    job, sha256 = bench.submit(kind=JobKind.TRAINING), hashlib.sha256(FILE).hexdigest()
    key = f"job/{job.id}/1/output/adapter.safetensors"
    store.put(key, FILE, content_type="application/octet-stream")
    output = replace(IMAGE, type="adapter", object_key=key, size_bytes=len(FILE), sha256=sha256)
    manifest = AdapterManifest(
        name="circles",
        model="tiny",
        version=1,
        family=ModelFamily.SD1,
        base_model_id=str(bench.model_id),
        rank=4,
        alpha=4.0,
        target_modules=("to_k",),
        sha256=sha256,
        size_bytes=len(FILE),
    )
    with bench.database.transaction() as session:
        claim = claim_next(session, kinds=[JobKind.TRAINING], worker_id="worker", lease_seconds=30.0)
        assert claim is not None
        finish(session, claim, Outcome(outputs=[output], adapter=manifest))
    return job.id


def test_of_a_training_with_its_adapter_nothing_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, trained: UUID
) -> None:
    assert broken(connection, store, accepted(trained)) == set()


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        ("DELETE FROM adapter", CROSSED),
        ("UPDATE job SET status = 'failed', error_code = 'poisoned'", CROSSED),
        ("UPDATE adapter SET object_key = 'elsewhere'", INCOMPLETE),
        ("UPDATE adapter SET sha256 = repeat('0', 64)", INCOMPLETE),
        ("DELETE FROM artifact", INCOMPLETE),
    ],
)
def test_a_training_without_its_adapter_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, trained: UUID, statement: str, promise: str
) -> None:
    connection.execute(statement.encode())
    assert promise in broken(connection, store, accepted(trained))


@pytest.fixture
def dataset(connection: "psycopg.Connection[Any]", bench: JobBench, store: ObjectStore) -> UUID:
    """Ready, of one picture."""
    dataset_id, sha256 = uuid4(), hashlib.sha256(FILE).hexdigest()
    store.put(f"dataset/{dataset_id}/{sha256}.png", FILE, content_type="image/png")
    connection.execute(
        "INSERT INTO dataset (id, tenant_id, name, status, digest) VALUES (%s, %s, 'a set', 'ready', %s)",
        [dataset_id, bench.tenant_id, sha256],
    )
    connection.execute(
        "INSERT INTO dataset_image (id, dataset_id, position, file_name, caption, object_key, sha256) "
        "VALUES (%s, %s, 0, '0.png', 'a picture', %s, %s)",
        [uuid4(), dataset_id, f"dataset/{dataset_id}/{sha256}.png", sha256],
    )
    return dataset_id


def test_of_a_dataset_that_is_whole_nothing_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, dataset: UUID
) -> None:
    assert broken(connection, store, {"event": "uploaded", "dataset_id": str(dataset)}) == set()


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        ("UPDATE dataset_image SET object_key = 'nowhere'", INCOMPLETE),
        ("UPDATE dataset_image SET sha256 = repeat('0', 64)", INCOMPLETE),
        ("UPDATE dataset SET status = 'open'", LOST),
        ("DELETE FROM dataset_image; DELETE FROM dataset", LOST),
    ],
)
def test_a_dataset_that_does_not_hold_what_it_names_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, dataset: UUID, statement: str, promise: str
) -> None:
    connection.execute(statement.encode())
    assert promise in broken(connection, store, {"event": "uploaded", "dataset_id": str(dataset)})


@pytest.mark.parametrize(
    "event",
    [
        {"event": "answered", "status": 500, "level": "info"},
        {"event": "request_failed_unexpectedly", "level": "error", "exception": "Traceback: oh"},
        {"event": "update_not_considered", "level": "error", "exception": "Traceback: oh"},
    ],
)
def test_an_error_of_the_api_that_no_client_heard_of_is_said(
    connection: "psycopg.Connection[Any]", store: ObjectStore, done: UUID, event: dict[str, Any]
) -> None:
    usual = {"event": "answered", "status": 503, "level": "info"}
    outage = {"event": "update_not_considered", "level": "warning"}
    assert examine(connection, store, [accepted(done)], api_log=[usual, outage]).broken == []
    findings = examine(connection, store, [accepted(done)], api_log=[usual, event])
    assert {promise for promise, count in findings.count().items() if count} == {ERROR_500}


def test_every_promise_has_been_broken_here() -> None:
    said = {CHANGED, LOST, STALE, INCOMPLETE, CROSSED, DUPLICATED, SPARED, FAILED, UNLAWFUL, ERROR_500, BROKEN_WORD}
    assert said | {CHARGED} == set(PROMISES)
