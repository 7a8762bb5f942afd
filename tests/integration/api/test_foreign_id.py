"""Every route that takes an id, with one of another tenant: there is no such thing, and nothing has changed."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core.domain.evaluation import Decision
from core.domain.webhook import Answer
from tests.api_bench import Tenancy, encode, lora
from tests.body_bench import named, refusal
from tests.integration.api.test_model_update import POLICY, evaluated
from tests.integration.api.test_webhook import URL, tell

SIGNED = "/api/datasets/{dataset_id}/uploads/{position}"
"""Takes a signed URL, and no key whatsoever."""


@pytest.fixture
def things(tenant: Tenancy, stranger: Tenancy) -> dict[str, str]:
    """One of each, by the names that paths have for them; the stranger has a model of his own."""
    stranger.register_model("theirs", shared=False)
    model = tenant.register_model(shared=False)
    assert tenant.call("PUT", f"/api/models/{model}/policy", json=POLICY).status_code == 200
    update = tenant.get(evaluated(tenant, Decision.NEEDS_APPROVAL)).json()
    image = tenant.draw_several(webhook=URL)[0]["id"]
    [letter] = tell(tenant, Answer(200))
    feedback = tenant.get("/api/feedback").json()["items"][0]["id"]
    body = {"name": "d", "images": [{"file_name": "a.png"}]}
    dataset = tenant.post("/api/datasets", json=body).json()["id"]
    adapter = tenant.post("/api/adapters", data={"name": "style"}, files={"file": encode(lora())}).json()["id"]
    ids = {"job": update["job_id"], "dataset": dataset, "adapter": adapter, "model": str(model)}
    ids |= {"image": image, "artifact": image, "feedback": feedback, "update": update["id"]}
    ids |= {"delivery": str(letter.id)}
    return {f"{name}_id": value for name, value in ids.items()}


def routes(tenant: Tenancy) -> Iterator[tuple[str, str, set[str]]]:
    """Method, path, and the names in the path."""
    for path, operations in tenant.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            names = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            if names:
                yield method.upper(), path, names


def call(who: Tenancy, method: str, path: str, ids: dict[str, str]) -> Any:
    url = path.replace("{position}", "0").replace("{form}", "diffusers")
    for name, value in ids.items():
        url = url.replace(f"{{{name}}}", value)
    return who.call(method, url, **({"json": {}} if method == "PUT" else {}))


def everything(tenant: Tenancy) -> dict[str, str]:
    """A digest of every table and the names of all objects. When a key was used last is no change."""
    with tenant.runtime.database.transaction() as session:
        tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        rows = {
            name: str(session.scalar(text(f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t")))
            for name in tables
            if name != "api_key"
        }
    return rows | {"objects": str(sorted(tenant.runtime.store.list("")))}


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "in capitals": str.upper,
    "without dashes": lambda value: UUID(value).hex,
    "as a URN": lambda value: f"urn:uuid:{value}",
    "in braces": lambda value: f"%7B{value}%7D",
}


def test_every_route_with_an_id_is_asked(tenant: Tenancy, things: dict[str, str]) -> None:
    found = list(routes(tenant))
    assert len(found) > 30
    assert set().union(*(names for _, _, names in found)) == {*things, "position", "form", "user_ref"}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_anothers_does_not_exist_on_any_route(
    tenant: Tenancy, stranger: Tenancy, things: dict[str, str], form: str
) -> None:
    ids, before = {name: FORMS[form](value) for name, value in things.items()}, everything(tenant)
    for method, path, names in routes(tenant):
        if not names & things.keys():
            continue
        answer = call(stranger, method, path, ids)
        status, code = (401, "unauthorized") if path == SIGNED else (404, "not_found")
        assert answer.headers["content-type"] == "application/problem+json", (method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (method, path)
        nobodys = call(stranger, method, path, dict.fromkeys(ids, str(uuid4())))
        assert (nobodys.status_code, nobodys.json()["code"]) == (status, code), (method, path)
        assert everything(tenant) == before, (method, path)


def test_its_owner_reads_it_on_every_route(tenant: Tenancy, things: dict[str, str]) -> None:
    asked = 0
    for method, path, names in routes(tenant):
        if method == "GET" and names & things.keys() and "/rollout" not in path:
            assert call(tenant, method, path, things).status_code == 200, path
            asked += 1
    assert asked > 15


NO_IDS = ("..", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "%252e%252e", "..%5C..", "%00", "%ED%A0%80", "%C0%AE", "a" * 5000)
NO_UUIDS = ("6f1f7c3e", "-1", "0", "null", "*", "%25", "'%20or%201=1--", "6f1f7c3e-0000-4000-8000-00000000000g")


@pytest.mark.parametrize("names", [NO_IDS, NO_UUIDS])
def test_what_is_no_id_does_not_exist_on_any_route(tenant: Tenancy, names: tuple[str, ...]) -> None:
    for method, path, places in routes(tenant):
        if "user_ref" in places:
            continue
        for name in names:
            answer = call(tenant, method, path, {each: name for each in places if each.endswith("_id")})
            statuses = (401, 404, 405) if path == SIGNED else (404, 405)
            assert answer.status_code in statuses, (method, path, name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", (method, path, name)


def test_ids_in_bodies_and_queries(tenant: Tenancy, stranger: Tenancy, things: dict[str, str]) -> None:
    digest = tenant.get(f"/api/adapters/{things['adapter_id']}").json()["sha256"]
    image, before = things["image_id"], everything(tenant)
    own = {"model": "theirs"}
    for fields, wrong in (
        ({"init_image": image} | own, "init_image"),
        ({"adapters": [{"ref": "style"}]} | own, "adapters.0.ref"),
        ({"adapters": [{"ref": "style@1"}]} | own, "adapters.0.ref"),
        ({"adapters": [{"ref": f"sha256:{digest}"}]} | own, "adapters.0.ref"),
        ({}, "model"),
    ):
        assert refusal(stranger.generate(**fields)) == named(wrong), fields
    training = {"dataset_id": things["dataset_id"], "name": "s", "base_model": "theirs"}
    assert refusal(stranger.post("/api/fine-tune", json=training)) == named("dataset_id")
    for said, wrong in (
        ({"kind": "thumb", "image_id": image, "liked": True}, "image_id"),
        ({"kind": "rating", "image_id": image, "rating": 1}, "image_id"),
        ({"kind": "comment", "image_id": image, "comment": "x"}, "image_id"),
        ({"kind": "choice", "chosen": image, "rejected": str(uuid4())}, "chosen"),
    ):
        answer = stranger.post("/api/feedback", json=said | {"user_ref": "user-0"})
        assert wrong in refusal(answer)[2], (said, answer.text)
        assert answer.status_code == 422
    for model, status in ((things["model_id"], 404), ("lorikeet-tiny", 422)):
        assert stranger.post("/api/model-updates", json={"model": model}).status_code == status
        assert stranger.get("/api/model-updates", params={"model": model}).status_code == status
    assert stranger.get("/api/feedback", params={"model_id": things["model_id"]}).json()["items"] == []
    assert stranger.get("/api/feedback", params={"user_ref": "user-0"}).json()["items"] == []
    assert stranger.call("DELETE", "/api/users/user-0/feedback").json()["withdrawn"] == 0
    assert everything(tenant) == before


def test_a_cursor_of_another_shows_nothing_of_his(tenant: Tenancy, stranger: Tenancy, things: dict[str, str]) -> None:
    for place in ("jobs", "feedback"):
        cursor = tenant.get(f"/api/{place}?limit=1").json()["next_cursor"]
        shown = stranger.get(f"/api/{place}", params={"cursor": cursor}).json()["items"]
        mine = {each["id"] for each in tenant.get(f"/api/{place}?limit=100").json()["items"]}
        assert not mine & {each["id"] for each in shown}
