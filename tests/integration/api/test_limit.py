"""Limits at the door: 429 in words, with the time to come back."""

import pytest

from api import doorkeeper
from core.domain.errors import QueueFull
from core.domain.job import WorkerKind
from core.infra.settings import Settings
from core.services import limit as limits
from core.services import run as run_service
from tests.api_bench import Tenancy, open_app


def allow(tenant: Tenancy, **changes: float | None) -> None:
    with tenant.runtime.database.transaction() as session:
        limits.set_limits(session, tenant_id=tenant.id, changes=changes)


def test_a_key_that_asks_too_often_is_told_when_to_come_back(
    tenant: Tenancy, stranger: Tenancy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "REMEMBERED_SECONDS", 0.0)
    allow(tenant, requests_per_minute=5)
    answers = [tenant.get("/api/jobs") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    refusal = answers[-1]
    assert (refusal.json()["code"], refusal.json()["detail"]) == (
        "too_many_requests",
        "This key may send 5 requests a minute.",
    )
    assert 1 <= int(refusal.headers["Retry-After"]) <= 13
    assert stranger.get("/api/jobs").status_code == 200


def test_a_full_queue_and_a_used_up_quota_are_problems_too(tenant: Tenancy) -> None:
    tenant.register_model()
    allow(tenant, queued_jobs=1)
    assert tenant.generate().status_code == 202
    full = tenant.generate()
    assert (full.status_code, full.json()["code"]) == (429, QueueFull.code)
    assert int(full.headers["Retry-After"]) >= 1
    assert int(full.headers["Retry-After"]) == 600, "no worker is alive"
    with tenant.runtime.database.transaction() as session:
        run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=1)
    assert int(tenant.generate().headers["Retry-After"]) == 1, "the one that waits starts at once"
    allow(tenant, queued_jobs=None, gpu_seconds_per_day=0)
    used = tenant.generate()
    assert (used.status_code, used.json()["code"]) == (429, "quota_exceeded")


def test_the_end_of_the_line_of_all_is_seen_from_behind_the_walls(settings: Settings) -> None:
    """Whose jobs those are nobody is told."""
    with open_app(settings.model_copy(update={"max_queued_jobs_of_all": 1.0})) as client:
        first, second = (Tenancy(client, client.app.state.runtime, name=name) for name in ("one", "two"))  # type: ignore[attr-defined]
        for tenant in (first, second):
            tenant.register_model()
        with first.runtime.database.transaction() as session:
            run_service.say_alive(session, worker_id="worker", kind=WorkerKind.GENERATION, slots=1)
        assert first.generate().status_code == 202
        refused = second.generate()
    assert (refused.status_code, refused.json()["code"]) == (429, QueueFull.code)
    assert refused.json()["detail"].startswith("1 jobs of all tenants are waiting")
    assert refused.headers["Retry-After"] == "1", "it starts at once"


def test_a_request_is_counted_once_whatever_it_needs(tenant: Tenancy) -> None:
    tenant.register_model()
    allow(tenant, requests_per_minute=3)
    answers = [tenant.generate().status_code for _ in range(4)]
    assert answers == [202, 202, 202, 429]
