"""Every route needs a key, and another tenant's things do not exist."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

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


def test_lists_show_only_what_is_ones_own(tenant: Tenancy, stranger: Tenancy) -> None:
    tenant.register_model("own", shared=False)
    tenant.register_model()
    image = tenant.draw()
    tenant.post("/api/datasets", data={"name": "d"}, files={"images": ("a.png", PNG)})
    tenant.post("/api/adapters", data={"name": "a"}, files={"file": encode(lora())})
    tenant.post("/api/feedback", json={"kind": "thumb", "image_id": image, "liked": True, "user_ref": "ann"})
    for listed in ("jobs", "datasets", "adapters", "feedback"):
        assert len(tenant.get(f"/api/{listed}").json()["items"]) > 0
        assert stranger.get(f"/api/{listed}").json()["items"] == []
    [shared] = stranger.get("/api/models").json()["items"]
    assert (shared["name"], shared["source"]) == ("lorikeet-tiny", None)
