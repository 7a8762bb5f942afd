"""Who asks is known before anything of his body is read, and how much of it is read depends on the route."""

from collections.abc import Iterator, Mapping

import pytest

from api import doorkeeper
from core.domain.api_key import ALL_SCOPES, Scope, make_key
from core.infra.settings import Settings
from core.services import limit as limits
from tests.api_bench import Tenancy, open_app
from tests.body_bench import PLACES
from tests.integration.api.test_api_key import key_of
from tests.integration.api.test_problem import JSON, problem
from tests.raw_request import RawRequest

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
HUGE = {"Content-Length": str(2**27)}
BODIES = {(place.method, place.path): JSON for place in PLACES.values()}
BODIES |= {("POST", "/api/adapters"): FORM, ("POST", "/api/datasets"): FORM}
BY_TOKEN_TOO = ("POST", "/api/feedback")


def unread(tenant: Tenancy, headers: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], int]]:
    """Every route that takes a body, and what it answers to one that is announced and not read."""
    for (method, path), kind in BODIES.items():
        request = RawRequest(method, path, {**kind, **HUGE, **headers}, [b"{"])
        status = request.send(tenant)
        assert (request.received == 0) is (status in (401, 403, 429)), (path, status, request.received)
        yield (method, path), status


def test_without_a_key_nothing_of_a_body_is_read(tenant: Tenancy) -> None:
    assert {place for place, status in unread(tenant, {}) if status != 401} == {BY_TOKEN_TOO}
    for wrong in (f"Bearer {make_key()}", "Bearer x"):
        assert {status for _, status in unread(tenant, {"Authorization": wrong})} == {401}


def test_a_key_is_asked_for_whatever_the_body_is(tenant: Tenancy) -> None:
    for body, kind in ((b"{", JSON), (b"{}", {"Content-Type": "text/plain"}), (b"[" + b"{}," * 10**6, JSON)):
        problem(tenant.http.post("/api/generate", content=body, headers=kind), 401, "unauthorized")


def test_a_key_that_does_not_go_so_far_has_nothing_read(tenant: Tenancy) -> None:
    for scope in Scope:
        let_in = {place for place, status in unread(tenant, key_of(tenant, scopes={scope})) if status != 403}
        refused = {
            place for place, status in unread(tenant, key_of(tenant, scopes=ALL_SCOPES - {scope})) if status == 403
        }
        assert let_in == refused, scope


def test_a_key_that_asks_too_often_has_nothing_read(tenant: Tenancy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "REMEMBERED_SECONDS", 0.0)
    with tenant.runtime.database.transaction() as session:
        limits.set_limits(session, tenant_id=tenant.id, changes={"requests_per_minute": 0})
    assert {status for _, status in unread(tenant, tenant.headers)} == {429}


def test_what_a_token_says_is_short(tenant: Tenancy) -> None:
    request = RawRequest(*BY_TOKEN_TOO, JSON, [b" " * 2**15] * 100)
    assert request.send(tenant) == 413
    assert request.received == 3
    assert b"65536 bytes" in request.body


def test_only_a_body_that_may_hold_a_picture_may_be_as_large_as_one(settings: Settings) -> None:
    with open_app(settings.model_copy(update={"max_json_bytes": 1000, "max_picture_json_bytes": 2000})) as client:
        tenant = Tenancy(client, client.app.state.runtime, name="small")  # type: ignore[attr-defined]
        for size, large in ((900, False), (1900, False), (2100, True)):
            answer = tenant.post("/api/generate", content=b" " * size, headers=JSON)
            assert (answer.status_code == 413) is large
        for path in ("/api/fine-tune", "/api/datasets", "/api/feedback"):
            assert tenant.post(path, content=b" " * 900, headers=JSON).status_code == 422
            problem(tenant.post(path, content=b" " * 1100, headers=JSON), 413, "body_too_large")


def test_a_problem_lists_a_hundred_errors_and_counts_the_rest(tenant: Tenancy) -> None:
    for fields, more in ((100, None), (900, "; and 800 more")):
        body = {"prompt": "a"} | {f"stranger{number}": number for number in range(fields)}
        refusal = problem(tenant.post("/api/generate", json=body), 422, "validation_error")
        assert len(refusal["errors"]) == 100
        assert refusal["detail"].endswith(more or "no such field")
        assert refusal["detail"].count("no such field") == 100
