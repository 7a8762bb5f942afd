"""Webhooks over HTTP: asked for with a job, seen, told again; the secret that signs."""

from collections.abc import Collection
from typing import Any

import pytest

from core.domain.api_key import Scope
from core.domain.job import JobKind
from core.domain.outcome import Outcome
from core.domain.webhook import Answer, Room
from core.infra.table import Job
from core.services import api_key as api_keys
from core.services import webhook as webhooks
from core.services.webhook import Letter
from tests.api_bench import Tenancy
from tests.integration.api.test_dataset import upload

pytestmark = pytest.mark.usefixtures("model_id")

URL = "https://hooks.example.com/lorikeet?token=secret"


def fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["field"] for error in answer.json()["errors"]}


def tell(tenant: Tenancy, answer: Answer) -> list[Letter]:
    """What upkeep would do, with a receiver that answers so."""
    with tenant.runtime.database.transaction() as session:
        webhooks.note_events(session)
        letters = webhooks.take(session, room=Room.of(16), busy=[], public_url=None)
    with tenant.runtime.database.transaction() as session:
        for letter in letters:
            assert webhooks.record(session, letter, answer)
    return list(letters)


def key_of(tenant: Tenancy, scopes: Collection[Scope]) -> dict[str, str]:
    with tenant.runtime.database.transaction() as session:
        key = api_keys.create(session, tenant_id=tenant.id, name="one more", scopes=scopes)
    return {"Authorization": f"Bearer {key}"}


def test_a_job_shows_whom_it_tells_and_keeps_it_to_itself(tenant: Tenancy) -> None:
    job = tenant.generate(webhook=URL, webhook_events=["start", "completed"]).json()
    assert job["webhook"] == "https://hooks.example.com/lorikeet"
    assert tenant.get(job["urls"]["self"]).json()["webhook"] == job["webhook"]
    assert tenant.generate().json()["webhook"] is None
    claim = tenant.claim()
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(Job, claim.job_id)
        assert (row.webhook, row.webhook_events) == (URL, ["start", "completed"])
        assert "hooks" not in str(row.spec) + str(row.plan)


def test_a_training_tells_too_and_no_file_of_it_says_whom(tenant: Tenancy) -> None:
    dataset = upload(tenant, "a red one", "a blue one").json()["id"]
    body = {"dataset_id": dataset, "name": "style", "rank": 4, "webhook": URL}
    job = tenant.post("/api/fine-tune", json=body).json()
    assert job["webhook"] == "https://hooks.example.com/lorikeet"
    assert "webhook" not in str(tenant.claim(JobKind.TRAINING).plan)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"webhook": "http://hooks.example.com/"}, {"webhook"}),
        ({"webhook": "https://127.0.0.1/"}, {"webhook"}),
        ({"webhook": "https://me:pw@hooks.example.com/"}, {"webhook"}),
        ({"webhook": "https://" + "a" * 2000}, {"webhook"}),
        ({"webhook": 5}, {"webhook"}),
        ({"webhook": "https://metadata.google.internal/", "width": 8192, "height": 8192}, {"webhook", "width"}),
        ({"webhook_events": ["start"]}, {"webhook_events"}),
        ({"webhook": URL, "webhook_events": ["start", "begin"]}, {"webhook_events.1"}),
        ({"webhook": URL, "webhook_events": []}, {"webhook_events"}),
    ],
)
def test_what_cannot_be_told_is_refused_at_once(tenant: Tenancy, given: dict[str, Any], wrong: set[str]) -> None:
    assert fields(tenant.generate(**given)) == wrong
    dataset = upload(tenant, "a red one", "a blue one").json()["id"]
    training = {"dataset_id": dataset, "name": "style", "rank": 4}
    if "width" not in given:
        assert fields(tenant.post("/api/fine-tune", json=training | given)) == wrong


def test_the_same_key_with_another_webhook_is_another_request(tenant: Tenancy) -> None:
    headers = {"Idempotency-Key": "once"}
    first = tenant.generate(headers=headers, webhook=URL)
    assert tenant.generate(headers=headers, webhook=URL).json()["id"] == first.json()["id"]
    for other in ({}, {"webhook": URL + "2"}, {"webhook": URL, "webhook_events": ["start"]}):
        answer = tenant.generate(headers=headers, **other)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reuse")


def test_what_was_told_is_seen_and_told_again(tenant: Tenancy) -> None:
    job = tenant.generate(webhook=URL).json()
    seen = f"{job['urls']['self']}/webhooks"
    assert seen == job["urls"]["webhooks"]
    assert tenant.get(seen).json() == {"items": [], "next_cursor": None}
    tenant.finish(tenant.claim(), Outcome())
    [letter] = tell(tenant, Answer(500, "It answered 500."))
    [waiting] = tenant.get(seen).json()["items"]
    assert (waiting["id"], waiting["event"], waiting["status"]) == (str(letter.id), "completed", "waiting")
    assert (waiting["status_code"], waiting["error"], waiting["attempt"]) == (500, "It answered 500.", 1)
    assert waiting["next_at"] is not None
    again = tenant.post(f"{seen}/{letter.id}/replay")
    assert (again.status_code, again.json()["attempt"], again.json()["error"]) == (200, 0, None)
    assert [each.id for each in tell(tenant, Answer(204))] == [letter.id]
    [told] = tenant.get(seen).json()["items"]
    assert (told["status"], told["status_code"], told["next_at"]) == ("delivered", 204, None)
    tenant.post(f"{seen}/{letter.id}/replay")
    tell(tenant, Answer(410, "It answered 410.", is_final=True))
    assert tenant.get(seen).json()["items"][0]["status"] == "given_up"


def test_nobody_sees_or_sends_what_is_anothers(tenant: Tenancy, stranger: Tenancy) -> None:
    job = tenant.generate(webhook=URL).json()
    tenant.finish(tenant.claim(), Outcome())
    [letter] = tell(tenant, Answer(204))
    seen = job["urls"]["webhooks"]
    for method, path in (("GET", seen), ("POST", f"{seen}/{letter.id}/replay")):
        assert stranger.call(method, path).status_code == 404
    own = stranger.generate(webhook=URL).json()["urls"]["webhooks"]
    assert stranger.post(f"{own}/{letter.id}/replay").status_code == 404
    assert tenant.get(seen).json()["items"][0]["status"] == "delivered"
    secrets = {each.get("/api/webhook-secret").json()["secret"] for each in (tenant, stranger)}
    assert len(secrets) == 2


def test_it_is_told_again_by_who_may_submit_such_jobs(tenant: Tenancy) -> None:
    job = tenant.generate(webhook=URL).json()
    tenant.finish(tenant.claim(), Outcome())
    [letter] = tell(tenant, Answer(204))
    path = f"{job['urls']['webhooks']}/{letter.id}/replay"
    trainer = key_of(tenant, {Scope.TRAIN, Scope.ADMIN, Scope.FEEDBACK})
    assert tenant.http.post(path, headers=trainer).status_code == 403
    assert tenant.http.post(path, headers=key_of(tenant, {Scope.GENERATE})).status_code == 200


def test_the_secret_is_the_admins_and_changes_over(tenant: Tenancy) -> None:
    painter = key_of(tenant, {Scope.GENERATE, Scope.TRAIN, Scope.FEEDBACK})
    assert tenant.http.get("/api/webhook-secret", headers=painter).status_code == 403
    first = tenant.get("/api/webhook-secret").json()
    assert tenant.get("/api/webhook-secret").json() == first
    assert (first["previous"], first["previous_until"]) == (None, None)
    second = tenant.post("/api/webhook-secret/rotate").json()
    assert second["secret"] != first["secret"]
    assert second["previous"] == first["secret"]
    assert second["previous_until"] > second["created_at"]


def test_prometheus_sees_what_was_told_and_what_was_not(tenant: Tenancy) -> None:
    for _ in range(2):
        tenant.generate(webhook=URL)
        tenant.finish(tenant.claim(), Outcome())
    tell(tenant, Answer(204))
    tenant.generate(webhook=URL)
    tenant.finish(tenant.claim(), Outcome())
    tell(tenant, Answer(500, "It answered 500."))
    text = tenant.http.get("/metrics").text
    for line in (
        'lorikeet_webhook_deliveries{outcome="waiting"} 0.0',
        'lorikeet_webhook_deliveries{outcome="retrying"} 1.0',
        'lorikeet_webhook_deliveries{outcome="delivered"} 2.0',
        'lorikeet_webhook_deliveries{outcome="given_up"} 0.0',
        "lorikeet_webhook_overdue_seconds 0.0",
    ):
        assert line in text, line
