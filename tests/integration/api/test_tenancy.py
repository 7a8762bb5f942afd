"""Every route needs a key, and another tenant's things do not exist."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from core.domain.base_model import BaseModelSpec
from core.domain.errors import JobFailure, ModelUnusable, OutOfMemory
from core.domain.job import JobKind
from core.services import model as models
from core.services import run as runs
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


WHERE = "/srv/models/of-the-operator"


def test_why_a_shared_model_failed_is_for_its_owner(tenant: Tenancy, stranger: Tenancy) -> None:
    spec = BaseModelSpec(name="shared", source=WHERE)
    with tenant.runtime.database.transaction() as session:
        models.register(session, spec, tenant_id=tenant.id, shared=True, queue=tenant.runtime.queue)
    with tenant.runtime.database.transaction() as session:
        runs.fail(session, tenant.claim(JobKind.REGISTRATION), ModelUnusable(f"This worker has no folder {WHERE}."))
    for path in ("/api/models", f"/api/models/{tenant.get('/api/models').json()['items'][0]['id']}"):
        assert WHERE in tenant.get(path).text
        foreign = stranger.get(path)
        assert WHERE not in foreign.text and "Its check failed" in foreign.text
    refused, foreign = tenant.generate(model="shared"), stranger.generate(model="shared")
    assert (refused.status_code, foreign.status_code) == (409, 409)
    assert WHERE in refused.text
    assert WHERE not in foreign.text and "Its check failed" in foreign.text


@pytest.mark.parametrize("error", [ModelUnusable(f"{WHERE} has no model_index.json."), OutOfMemory("Too large.")])
def test_a_job_tells_where_a_shared_model_lies_to_its_owner_alone(
    tenant: Tenancy, stranger: Tenancy, error: JobFailure
) -> None:
    tenant.register_model()
    shown = {}
    for one in (tenant, stranger):
        job = one.generate().json()
        with one.runtime.database.transaction() as session:
            runs.fail(session, one.claim(), error)
        shown[one] = one.get(f"/api/jobs/{job['id']}").json()["error"]
    assert shown[tenant]["message"] == error.message
    assert shown[stranger]["code"] == error.code
    assert WHERE not in str(shown[stranger])
    assert (error.message in str(shown[stranger])) == isinstance(error, OutOfMemory)
