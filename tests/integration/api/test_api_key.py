"""Keys at the door: what each lets its holder do, until when, and what is remembered of it."""

from collections.abc import Collection, Iterator
from datetime import timedelta
from math import inf
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api import doorkeeper
from core.domain.api_key import ALL_SCOPES, Scope, make_key
from core.infra.repository import api_key as rows
from core.infra.table import ApiKey
from core.services import api_key as api_keys
from tests.api_bench import Tenancy
from tests.integration.api.test_tenancy import OPEN, routes

BY_SIGNED_URL = {("PUT", "/api/datasets/{dataset_id}/uploads/{position}")}
BY_KIND_OF_JOB = {
    ("POST", "/api/jobs/{job_id}/cancel"),
    ("POST", "/api/jobs/{job_id}/webhooks/{delivery_id}/replay"),
}
BY_TOKEN_TOO = {("POST", "/api/feedback")}


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "REMEMBERED_SECONDS", 0.0)


def key_of(
    tenant: Tenancy, *, scopes: Collection[Scope] = ALL_SCOPES, lifetime: timedelta | None = None
) -> dict[str, str]:
    """The headers that a new key is sent in."""
    with tenant.runtime.database.transaction() as session:
        key = api_keys.create(session, tenant_id=tenant.id, name="one more", scopes=scopes, lifetime=lifetime)
    return {"Authorization": f"Bearer {key}"}


def newest(tenant: Tenancy) -> ApiKey:
    with tenant.runtime.database.transaction() as session:
        return rows.of_tenant(session, tenant_id=tenant.id)[-1]


def changing(client: TestClient) -> Iterator[tuple[str, str]]:
    for method, path in routes(client):
        if method != "GET" and path not in OPEN and (method, path) not in BY_SIGNED_URL | BY_KIND_OF_JOB:
            yield method, path


def test_every_route_that_changes_something_names_one_scope_and_takes_no_other(tenant: Tenancy) -> None:
    operations = tenant.http.get("/openapi.json").json()["paths"]
    found = list(changing(tenant.http))
    assert len(found) > 12
    for method, path in found:
        said = operations[path][method.lower()]["security"]
        named = {scope for requirement in said for scopes in requirement.values() for scope in scopes}
        if (method, path) not in BY_TOKEN_TOO:
            assert len(named) == 1, (method, path)
        needed = Scope(named.pop()) if named else Scope.FEEDBACK
        url = path.replace("{form}", "kohya").replace("{user_ref}", "ann")
        for part in path.split("/"):
            if part.endswith("_id}"):
                url = url.replace(part, str(uuid4()))
        without = key_of(tenant, scopes=ALL_SCOPES - {needed})
        answer = tenant.http.request(method, url, headers=without, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope"), (method, path)
        assert answer.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
        assert needed in answer.json()["detail"]
        let_in = tenant.http.request(method, url, headers=key_of(tenant, scopes={needed}), json={})
        assert let_in.status_code not in (401, 403), (method, path)


def test_any_key_of_the_tenant_reads(tenant: Tenancy) -> None:
    for scope in Scope:
        assert tenant.http.get("/api/jobs", headers=key_of(tenant, scopes={scope})).status_code == 200


def test_a_job_is_cancelled_by_who_may_submit_such_jobs(tenant: Tenancy) -> None:
    tenant.register_model()
    job = tenant.generate().json()["id"]
    trainer = key_of(tenant, scopes={Scope.TRAIN, Scope.ADMIN, Scope.FEEDBACK})
    assert tenant.http.post(f"/api/jobs/{job}/cancel", headers=trainer).status_code == 403
    assert tenant.get(f"/api/jobs/{job}").json()["status"] == "queued"
    painter = key_of(tenant, scopes={Scope.GENERATE})
    assert tenant.http.post(f"/api/jobs/{job}/cancel", headers=painter).json()["status"] == "canceled"


def test_a_revoked_key_closes_the_door(tenant: Tenancy) -> None:
    headers = key_of(tenant)
    assert tenant.http.get("/api/jobs", headers=headers).status_code == 200
    with tenant.runtime.database.transaction() as session:
        api_keys.revoke(session, key_id=newest(tenant).id)
    assert tenant.http.get("/api/jobs", headers=headers).status_code == 401
    assert tenant.get("/api/jobs").status_code == 200, "the tenant's other key"


def test_a_key_expires(tenant: Tenancy) -> None:
    assert tenant.http.get("/api/jobs", headers=key_of(tenant, lifetime=timedelta(hours=1))).status_code == 200
    assert tenant.http.get("/api/jobs", headers=key_of(tenant, lifetime=timedelta(0))).status_code == 401


def test_a_rotated_key_goes_on_for_a_while_beside_its_heir(tenant: Tenancy) -> None:
    old = key_of(tenant, scopes={Scope.TRAIN})
    with tenant.runtime.database.transaction() as session:
        key = api_keys.rotate(session, key_id=newest(tenant).id, overlap=timedelta(hours=1))
    heir = {"Authorization": f"Bearer {key}"}
    assert (newest(tenant).name, newest(tenant).scopes, newest(tenant).expires_at) == ("one more", ["train"], None)
    assert [tenant.http.get("/api/jobs", headers=headers).status_code for headers in (old, heir)] == [200, 200]
    with tenant.runtime.database.transaction() as session:
        session.execute(text("UPDATE api_key SET expires_at = now() WHERE expires_at IS NOT NULL"))
    assert [tenant.http.get("/api/jobs", headers=headers).status_code for headers in (old, heir)] == [401, 200]


def test_rotation_never_lengthens_a_life(tenant: Tenancy) -> None:
    key_of(tenant, lifetime=timedelta(minutes=5))
    before = newest(tenant)
    with tenant.runtime.database.transaction() as session:
        api_keys.rotate(session, key_id=before.id, overlap=timedelta(days=1))
    with tenant.runtime.database.transaction() as session:
        assert session.get_one(ApiKey, before.id).expires_at == before.expires_at


def test_the_heir_of_a_key_that_ends_ends_as_well(tenant: Tenancy) -> None:
    key_of(tenant, lifetime=timedelta(days=90))
    for given, expected in ((None, timedelta(days=90)), (timedelta(days=7), timedelta(days=7))):
        with tenant.runtime.database.transaction() as session:
            api_keys.rotate(session, key_id=newest(tenant).id, overlap=timedelta(days=365), lifetime=given)
        heir = newest(tenant)
        assert heir.expires_at is not None
        assert abs(heir.expires_at - heir.created_at - expected) < timedelta(seconds=1)


def test_the_last_use_is_remembered_to_the_minute(tenant: Tenancy) -> None:
    headers = key_of(tenant)
    assert newest(tenant).last_used_at is None
    tenant.http.get("/api/jobs", headers=headers)
    first = newest(tenant).last_used_at
    assert first is not None
    tenant.http.get("/api/jobs", headers=headers)
    assert newest(tenant).last_used_at == first, "not a write for every request"


def test_what_is_no_key_costs_no_query(tenant: Tenancy) -> None:
    asked: list[str] = []
    admit = tenant.runtime.doorkeeper._ask
    tenant.runtime.doorkeeper._ask = lambda key: asked.append(key) or admit(key)  # type: ignore[method-assign, func-returns-value]
    unknown = make_key()
    for key in ("lk_wrong", make_key()[:-1] + "?", unknown):
        assert tenant.http.get("/api/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert asked == [unknown]


def test_unknown_keys_are_remembered_too_and_push_nobody_out(tenant: Tenancy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "REMEMBERED_SECONDS", inf)
    monkeypatch.setattr(doorkeeper, "_MAX_REMEMBERED", 2)
    asked: list[str] = []
    admit = tenant.runtime.doorkeeper._ask
    tenant.runtime.doorkeeper._ask = lambda key: asked.append(key) or admit(key)  # type: ignore[method-assign, func-returns-value]

    def ask(key: str) -> int:
        status: int = tenant.http.get("/api/jobs", headers={"Authorization": f"Bearer {key}"}).status_code
        return status

    strangers = [make_key() for _ in range(5)]
    assert [ask(key) for key in (tenant.key, *strangers, strangers[-1], tenant.key)] == [200, *[401] * 6, 200]
    assert asked == [tenant.key, *strangers]
    assert ask(key_of(tenant)["Authorization"].removeprefix("Bearer ")) == 200, "a new key works at once"


def test_nothing_that_opens_the_door_is_kept(tenant: Tenancy) -> None:
    key = key_of(tenant)["Authorization"].removeprefix("Bearer ")
    kept = {column.name: getattr(newest(tenant), column.name) for column in ApiKey.__table__.columns}
    assert key not in str(kept)
    assert kept["shown_part"] == key[:9]
