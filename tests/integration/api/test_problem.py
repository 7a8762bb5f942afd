"""Every answer that is not a success is a problem."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from core.infra.settings import Settings
from core.services import job as jobs
from tests.api_bench import Tenancy, open_app

JSON = {"Content-Type": "application/json"}


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert {"type", "title", "detail", "request_id"} <= set(body)
    assert body["type"] == f"urn:lorikeet:problem:{code}"
    assert answer.headers["X-Request-ID"] == body["request_id"]
    return body


def test_what_does_not_exist(tenant: Tenancy) -> None:
    problem(tenant.get("/nope"), 404, "not_found")
    problem(tenant.get("/api/jobs/" + "a" * 5000), 404, "not_found")
    problem(tenant.call("PATCH", "/api/jobs"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b'"a"', b"null", b"[" * 10_000, b'{"prompt":"a","prompt":"b"}', b"\xff", b"{}"]
)
def test_bodies_that_are_none(tenant: Tenancy, body: bytes) -> None:
    errors = problem(tenant.post("/api/generate", content=body, headers=JSON), 422, "validation_error")["errors"]
    assert errors
    assert all(set(error) == {"field", "message"} for error in errors)


def test_the_content_type_must_be_json(tenant: Tenancy) -> None:
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}):
        answer = tenant.post("/api/generate", content=b'{"prompt": "a"}', headers=headers)
        problem(answer, 415, "unsupported_media_type")


def test_a_hundred_megabytes_are_refused(tenant: Tenancy) -> None:
    body = b'{"prompt": "' + b"a" * (100 * 2**20) + b'"}'
    problem(tenant.post("/api/generate", content=body, headers=JSON), 413, "body_too_large")
    answer = tenant.post("/api/generate", content=iter([body[: 2**26], body[2**26 :]]), headers=JSON)
    problem(answer, 413, "body_too_large")


def test_the_largest_body_is_a_setting(settings: Settings) -> None:
    with open_app(settings.model_copy(update={"max_body_bytes": 1000})) as client:
        tenant = Tenancy(client, client.app.state.runtime, name="small")  # type: ignore[attr-defined]
        problem(tenant.post("/api/datasets", data={"name": "x" * 2000}, files={"a": b""}), 413, "body_too_large")
        streamed = tenant.post(
            "/api/datasets?name=a", content=iter([b"x" * 600, b"x" * 600]), headers={"Content-Type": "application/zip"}
        )
        problem(streamed, 413, "body_too_large")


def test_a_request_may_bring_its_id(tenant: Tenancy) -> None:
    assert tenant.get("/nope", headers={"X-Request-ID": "mine-1"}).json()["request_id"] == "mine-1"
    strange = tenant.get("/nope", headers={"X-Request-ID": "x" * 65}).json()["request_id"]
    assert len(strange) == 32


def test_a_surprise_shows_no_stack(tenant: Tenancy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(jobs, "get", fall)
    answer = tenant.get("/api/jobs/6f1f7c3e-0000-4000-8000-000000000000")
    problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_the_documentation_names_every_route(tenant: Tenancy) -> None:
    assert tenant.http.get("/docs").status_code == 200
    paths = set(tenant.http.get("/openapi.json").json()["paths"])
    assert {
        "/api/generate",
        "/api/fine-tune",
        "/api/jobs",
        "/api/jobs/{job_id}",
        "/api/jobs/{job_id}/cancel",
        "/api/jobs/{job_id}/metrics",
        "/api/datasets",
        "/api/datasets/{dataset_id}",
        "/api/datasets/{dataset_id}/complete",
        "/api/adapters",
        "/api/adapters/{adapter_id}",
        "/api/models",
        "/api/models/{model_id}",
        "/api/images/{image_id}",
        "/api/images/{artifact_id}/content",
        "/api/feedback",
        "/api/feedback/{feedback_id}",
        "/api/users/{user_ref}/feedback",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= paths


text = st.text(st.characters(categories=None), max_size=30)  # every code point, lone surrogates included
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "prompt",
    "negative_prompt",
    "model",
    "width",
    "steps",
    "seed",
    "adapters",
    "init_image",
    "scheduler",
    "rank",
    "dataset_id",
    "name",
    "images",
    "source",
    "kind",
    "image_id",
    "rating",
    "chosen",
    "rejected",
    "comment",
    "tags",
    "user_ref",
    "feedback_token",
)


@pytest.mark.usefixtures("model_id")
def test_no_json_whatsoever_surprises_the_api(tenant: Tenancy) -> None:
    @effort(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.sampled_from(["generate", "fine-tune", "models", "datasets", "feedback"]),
        st.dictionaries(st.sampled_from(FIELDS) | text, values | st.sampled_from(["thumb", "rating", "choice"])),
    )
    def send(place: str, body: dict[str, Any]) -> None:
        answer = tenant.post(f"/api/{place}", content=json.dumps(body).encode(), headers=JSON)
        assert answer.status_code in (201, 202, 409, 422), (body, answer.text)
        if answer.status_code == 422:
            assert answer.json()["errors"]
        if place == "feedback":  # a body may bring a token in place of a key
            keyless = tenant.http.post("/api/feedback", content=json.dumps(body).encode(), headers=JSON)
            assert keyless.status_code in (401, 422), (body, keyless.text)

    send()
