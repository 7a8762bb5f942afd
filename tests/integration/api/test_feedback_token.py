"""Feedback without an API key: a token rates its image, once, until it expires."""

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.feedback_token import TokenSigner
from tests.api_bench import Tenancy


@pytest.fixture
def outputs(tenant: Tenancy) -> list[dict[str, Any]]:
    tenant.register_model()
    return tenant.draw_several(count=2, prompt="a star")


def say(tenant: Tenancy, **body: Any) -> Any:
    return tenant.http.post("/api/feedback", json=body)


def like(tenant: Tenancy, output: dict[str, Any], **changes: Any) -> Any:
    body = {"kind": "thumb", "image_id": output["id"], "liked": True, "feedback_token": output["feedback_token"]}
    return say(tenant, **(body | changes))


def choose(tenant: Tenancy, outputs: list[dict[str, Any]], **changes: Any) -> Any:
    chosen, rejected = outputs
    body = {"kind": "choice", "chosen": chosen["id"], "rejected": rejected["id"]}
    tokens = {"feedback_token": chosen["feedback_token"], "rejected_feedback_token": rejected["feedback_token"]}
    return say(tenant, **(body | tokens | changes))


def test_a_token_rates_its_image_once(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    answer = like(tenant, outputs[0])
    assert answer.status_code == 201, answer.text
    assert (answer.json()["user_ref"], answer.json()["by_token"]) == ("anonymous", True)
    [listed] = tenant.get("/api/feedback").json()["items"]
    assert listed["id"] == answer.json()["id"]
    again = like(tenant, outputs[0], liked=False)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    fresh = tenant.get(f"/api/images/{outputs[0]['id']}").json()
    assert like(tenant, fresh).status_code == 409
    assert like(tenant, outputs[1]).status_code == 201


def test_its_user_is_who_asked_for_the_image(tenant: Tenancy) -> None:
    tenant.register_model()
    outputs = tenant.draw_several(count=2, user_ref="ann")
    earlier = {"kind": "thumb", "image_id": outputs[0]["id"], "liked": False, "user_ref": "ann"}
    assert tenant.post("/api/feedback", json=earlier).status_code == 201
    assert like(tenant, outputs[0]).json()["user_ref"] == "ann"
    [listed] = tenant.get("/api/feedback").json()["items"]
    assert listed["liked"] is True
    refused = like(tenant, outputs[1], user_ref="bob")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "user_ref")


def test_a_choice_takes_both_tokens(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    for token, status in ((None, 422), (outputs[0]["feedback_token"], 422), ("forged", 401)):
        answer = choose(tenant, outputs, rejected_feedback_token=token)
        assert answer.status_code == status
        if status == 422:
            assert answer.json()["errors"][0]["field"] == "rejected_feedback_token"
    assert choose(tenant, outputs).status_code == 201
    assert choose(tenant, outputs[::-1]).status_code == 409
    assert like(tenant, outputs[0]).status_code == 201


def test_another_images_token_a_forged_one_and_an_old_one(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    other = like(tenant, outputs[0], feedback_token=outputs[1]["feedback_token"])
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "feedback_token")
    image_id, now = UUID(outputs[0]["id"]), int(time.time())
    past = tenant.runtime.token_signer.make(image_id, expires=now - 1)
    forged = TokenSigner(b"x" * 32).make(image_id, expires=now + 60)
    for token in (past, forged, "x", outputs[0]["feedback_token"] + "A"):
        answer = like(tenant, outputs[0], feedback_token=token)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert tenant.get("/api/feedback").json()["items"] == []


def test_a_token_of_an_image_that_is_gone(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    gone = uuid4()
    token = tenant.runtime.token_signer.make(gone, expires=int(time.time()) + 60)
    answer = like(tenant, outputs[0], image_id=str(gone), feedback_token=token)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "image_id")


def test_a_key_or_a_token_but_not_both(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    body = {"kind": "thumb", "image_id": outputs[0]["id"], "liked": True}
    both = tenant.post("/api/feedback", json=body | {"user_ref": "a", "feedback_token": outputs[0]["feedback_token"]})
    assert (both.status_code, both.json()["errors"][0]["field"]) == (422, "feedback_token")
    assert say(tenant, **body).status_code == 401
    assert say(tenant, **body, feedback_token=None).status_code == 401
    wrong_key = {"Authorization": "Bearer lk_wrong"}
    token = {"feedback_token": outputs[0]["feedback_token"]}
    assert tenant.http.post("/api/feedback", json=body | token, headers=wrong_key).status_code == 401


def test_a_token_opens_nothing_else(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    token = outputs[0]["feedback_token"]
    for path in ("/api/feedback", f"/api/images/{outputs[0]['id']}"):
        assert tenant.http.get(path, params={"feedback_token": token}).status_code == 401
    assert tenant.http.post("/api/generate", json={"prompt": "a", "feedback_token": token}).status_code == 401


def test_two_tenants_pictures_are_no_choice(tenant: Tenancy, stranger: Tenancy, outputs: list[dict[str, Any]]) -> None:
    foreign = stranger.draw_several(prompt="a star")[0]
    answer = choose(tenant, [outputs[0], foreign])
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "rejected")


def test_only_pictures_that_were_asked_for_have_a_token(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    assert tenant.draw_several(kind="adapter")[0]["feedback_token"] is None
    assert tenant.draw_several(kind="sample")[0]["feedback_token"] is None
