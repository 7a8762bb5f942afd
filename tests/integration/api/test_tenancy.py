"""Every route needs a key, and another tenant's things do not exist."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from tests.api_bench import Tenancy, encode, lora
from tests.integration.api.test_dataset import PNG

OPEN = {"/healthz", "/readyz", "/metrics"}


def routes(client: TestClient) -> Iterator[tuple[str, str]]:
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method in operations:
            yield method.upper(), path


def test_every_route_needs_a_key(client: TestClient) -> None:
    found = list(routes(client))
    assert len(found) > 20
    for method, path in found:
        if path in OPEN:
            continue
        url = path.replace("{position}", "0").replace("{form}", "kohya")
        things = ("job", "dataset", "adapter", "model", "image", "artifact", "feedback", "update", "delivery")
        for name in things:
            url = url.replace(f"{{{name}_id}}", str(uuid4()))
        json: dict[str, Any] = {} if method not in ("POST", "PUT") else {"json": {"prompt": "a"}}
        for headers in ({}, {"Authorization": "Bearer lk_wrong"}, {"Authorization": "Basic eA=="}):
            answer = client.request(method, url, headers=headers, **json)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_what_is_anothers_does_not_exist(tenant: Tenancy, stranger: Tenancy) -> None:
    tenant.register_model("own", shared=False)
    model = tenant.get("/api/models").json()["items"][0]["id"]
    tenant.register_model()
    job = tenant.generate().json()["id"]
    image = tenant.draw()
    dataset = tenant.post("/api/datasets", data={"name": "d"}, files={"images": ("a.png", PNG)}).json()["id"]
    training = tenant.post("/api/fine-tune", json={"dataset_id": dataset, "name": "s", "rank": 4}).json()["id"]
    adapter = tenant.post("/api/adapters", data={"name": "a"}, files={"file": encode(lora())}).json()["id"]
    said = {"kind": "thumb", "image_id": image, "liked": True, "user_ref": "ann"}
    feedback = tenant.post("/api/feedback", json=said).json()["id"]
    calls = [
        ("GET", f"/api/jobs/{job}"),
        ("POST", f"/api/jobs/{job}/cancel"),
        ("GET", f"/api/jobs/{training}/metrics"),
        ("GET", f"/api/images/{image}"),
        ("GET", f"/api/images/{image}/content"),
        ("GET", f"/api/artifacts/{image}/content"),
        ("GET", f"/api/datasets/{dataset}"),
        ("POST", f"/api/datasets/{dataset}/complete"),
        ("DELETE", f"/api/datasets/{dataset}"),
        ("GET", f"/api/adapters/{adapter}"),
        ("GET", f"/api/adapters/{adapter}/manifest"),
        ("GET", f"/api/adapters/{adapter}/files/diffusers"),
        ("DELETE", f"/api/adapters/{adapter}"),
        ("GET", f"/api/adapters/{adapter}/transitions"),
        ("POST", f"/api/adapters/{adapter}/promote"),
        ("POST", f"/api/adapters/{adapter}/rollback"),
        ("GET", f"/api/models/{model}"),
        ("GET", f"/api/models/{model}/policy"),
        ("GET", f"/api/feedback/{feedback}"),
        ("DELETE", f"/api/feedback/{feedback}"),
    ]
    for method, path in calls:
        answer = stranger.call(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        unknown = stranger.call(method, path.replace(path.split("/")[3], str(uuid4())))
        assert unknown.status_code == 404
    for listed in ("jobs", "datasets", "adapters", "feedback"):
        assert stranger.get(f"/api/{listed}").json()["items"] == []
    assert [each["name"] for each in stranger.get("/api/models").json()["items"]] == ["lorikeet-tiny"]
    assert stranger.get("/api/models").json()["items"][0]["source"] is None
    for method, path in calls:
        if method == "GET":
            assert tenant.call(method, path).status_code == 200, path


@pytest.mark.parametrize("name", ["abc", "..%2F..%2Fetc", "%00", "6f1f7c3e", "'; drop table job --", "%ED%A0%80"])
def test_an_id_that_is_none_does_not_exist(tenant: Tenancy, name: str) -> None:
    for place in ("jobs", "datasets", "adapters", "models", "images", "feedback", "model-updates"):
        answer = tenant.get(f"/api/{place}/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
