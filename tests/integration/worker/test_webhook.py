"""The postman over the real Postgres, with real receivers on loopback."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook as Verifier

from core.domain.webhook import Webhook, WebhookEvent
from core.infra import webhook_sender
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.webhook_sender import WebhookSender
from core.services import webhook as webhooks
from core.services import webhook_secret as secrets
from tests import receiver
from tests.job_bench import IMAGE, JobBench
from tests.receiver import receiving
from worker.handler.webhook import Postman
from worker.runtime import Runtime

PATIENCE_SECONDS = 30.0


class Post:
    """A postman, and jobs that have something to tell."""

    def __init__(self, bench: JobBench, settings: Settings, store: ObjectStore) -> None:
        self.bench = bench
        settings = settings.model_copy(update={"sweep_seconds": 0.05})
        self.runtime = Runtime(settings, bench.database, store, bench.queue, worker_id="upkeep")
        self.postman = self.another()

    def another(self, *, private: bool = True) -> Postman:
        return Postman(self.runtime, WebhookSender(private=private))

    def begin(self, url: str, **changes: Any) -> None:
        """A job that has started."""
        self.bench.submit(webhook=Webhook(url, (WebhookEvent.START,)), **changes)
        self.bench.must_claim()

    def go_round(self) -> int:
        """One round, until all are back; how many set out."""
        letters = self.postman.go_round()
        self.postman.rest(PATIENCE_SECONDS)
        return len(letters)

    def rows(self) -> list[Any]:
        with self.bench.database.transaction() as session:
            return list(session.execute(text("SELECT * FROM webhook_delivery ORDER BY created_at")).all())

    def await_told(self, count: int) -> None:
        """Until so many were delivered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sum(row.delivered_at is not None for row in self.rows()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def be_due(self) -> None:
        self.bench.execute("UPDATE webhook_delivery SET next_at = now() WHERE next_at IS NOT NULL")


@pytest.fixture
def post(bench: JobBench, settings: Settings, store: ObjectStore) -> Iterator[Post]:
    post = Post(bench, settings, store)
    yield post
    post.postman.rest(PATIENCE_SECONDS)


def test_a_job_is_told_from_its_start_to_its_end(post: Post) -> None:
    with receiving() as there:
        post.bench.submit(webhook=Webhook(there.url, tuple(WebhookEvent)))
        claim = post.bench.must_claim()
        assert post.go_round() == 1
        post.bench.finish(claim, IMAGE)
        assert post.go_round() == 2
        assert post.go_round() == 0
    told = [json.loads(request.body) for request in there.received]
    assert told[0]["type"] == "job.start"
    assert {each["type"] for each in told[1:]} == {"job.output", "job.completed"}
    assert len({request.headers["webhook-id"] for request in there.received}) == 3
    with post.bench.database.transaction() as session:
        secret = secrets.get(session, tenant_id=post.bench.tenant_id).secret
    for request in there.received:
        assert Verifier(secret).verify(request.body, request.headers)["data"]["job_id"] == str(claim.job_id)
    assert all(row.delivered_at is not None and row.status_code == 200 for row in post.rows())


def test_who_fails_at_first_is_told_the_same_again(post: Post) -> None:
    with receiving(receiver.status(500), receiver.status(200)) as there:
        post.begin(there.url)
        post.go_round()
        [row] = post.rows()
        assert (row.status_code, row.error, row.delivered_at) == (500, "It answered 500.", None)
        assert post.go_round() == 0
        post.be_due()
        assert post.go_round() == 1
        [row] = post.rows()
        assert (row.status_code, row.error, row.attempt) == (200, None, 2)
    first, second = there.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_who_asks_for_time_has_it(post: Post) -> None:
    with receiving(receiver.status(503, **{"Retry-After": "3600"})) as there:
        post.begin(there.url)
        post.go_round()
    [row] = post.rows()
    assert row.next_at is not None
    assert timedelta(minutes=50) < row.next_at - row.created_at < timedelta(minutes=70)


@pytest.mark.parametrize(
    ("behave", "status_code", "is_open"),
    [
        (receiver.status(302, Location="http://127.0.0.1:1/"), 302, True),
        (receiver.status(410), 410, False),
        (receiver.endless, 200, False),
        (receiver.nonsense, None, True),
        (receiver.hang, None, True),
    ],
)
def test_whatever_a_receiver_does_is_noted(
    post: Post, behave: receiver.Behave, status_code: int | None, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "TOTAL_SECONDS", 2.0)
    with receiving(behave) as there:
        post.begin(there.url)
        assert post.go_round() == 1
    [row] = post.rows()
    assert (row.status_code, row.next_at is not None) == (status_code, is_open)
    assert (row.error is None) == (status_code == 200)


def test_a_slow_receiver_holds_up_nobody(post: Post) -> None:
    """Those that are never answered have a quarter of the room and no more; the quick one is told at once."""
    with receiving(receiver.hang) as slow, receiving() as quick:
        for _ in range(6):
            post.begin(slow.url)
        post.begin(quick.url)
        assert len(post.postman.go_round()) == 4 + 1
        post.await_told(1)
        assert post.postman.go_round() == []
        assert len(quick.received) == 1


def test_in_production_nothing_here_is_told_anything(post: Post) -> None:
    with receiving() as here:
        post.begin(here.url)
        post.postman = post.another(private=False)
        post.go_round()
    assert here.received == []
    [row] = post.rows()
    assert row.error == "The URL must begin with https://."
    assert row.given_up_at is not None


def test_what_nobody_foresaw_is_a_failure_like_any_other(post: Post) -> None:
    class Broken(WebhookSender):
        def _send(self, *_: object) -> tuple[int, str]:
            raise RuntimeError("a bug")

    post.postman = Postman(post.runtime, Broken(private=True))
    post.begin("http://127.0.0.1:1/")
    post.go_round()
    [row] = post.rows()
    assert row.error == "Something went wrong here; the operator's log knows more."
    assert row.next_at is not None


def test_a_result_that_could_not_be_written_costs_a_second_telling_with_the_same_id(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> bool:
        raise RuntimeError("it dies here")

    with receiving() as there:
        post.begin(there.url)
        with monkeypatch.context() as broken:
            broken.setattr(webhooks, "record", die)
            post.go_round()
        assert [row.delivered_at for row in post.rows()] == [None]
        post.be_due()
        post.go_round()
    assert len({request.headers["webhook-id"] for request in there.received}) == 1
    assert len(there.received) == 2


def test_two_postmen_go_round_until_they_are_stopped(post: Post) -> None:
    with receiving() as there:
        postmen = [post.another() for _ in range(2)]
        for postman in postmen:
            postman.start()
        for _ in range(12):
            post.begin(there.url)
        post.await_told(12)
        for postman in postmen:
            postman.stop()
    assert len(there.received) == 12
    post.begin("http://127.0.0.1:1/")
    assert len(post.rows()) == 12
