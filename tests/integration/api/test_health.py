"""Health, readiness, metrics; and what the API does when a system behind it is away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from api import runtime as runtimes
from cli.ledger import any_free_port
from core.domain.api_key import make_key
from core.domain.holding import Holding, Residency
from core.domain.job import WorkerKind
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from core.services import census
from core.services import run as runs
from tests.api_bench import Tenancy, open_app
from tests.servers import refuses_writes


def test_alive_and_ready(tenant: Tenancy) -> None:
    assert tenant.http.get("/healthz").json() == {"status": "ok"}
    ready = tenant.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ok", "database": "ok", "queue": "ok", "store": "ok"},
    )


@pytest.fixture
def nowhere() -> Iterator[str]:
    yield f"127.0.0.1:{any_free_port()}"


def test_without_the_database_nothing_is_accepted_into_memory(settings: Settings, nowhere: str) -> None:
    lonely = settings.model_copy(update={"database_url": f"postgresql://nobody@{nowhere}/none"})
    with open_app(lonely) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["database"], ready.json()["store"]) == (503, "away", "ok")
        answer = client.post("/api/generate", json={"prompt": "a"}, headers={"Authorization": f"Bearer {make_key()}"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        shown = client.get("/metrics").text
        assert "lorikeet_database_up 0.0" in shown
        assert "lorikeet_queue_up 1.0" in shown
        assert client.get("/healthz").status_code == 200


def test_where_redis_refuses_writes_jobs_are_accepted_all_the_same(tenant: Tenancy) -> None:
    tenant.register_model()
    with refuses_writes(tenant.runtime.settings):
        ready = tenant.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"], ready.json()["queue"]) == (200, "degraded", "away")
        with capture_logs() as logs:
            assert tenant.generate().status_code == 202
        assert [(each["event"], each["log_level"]) for each in logs if each["log_level"] != "info"] == [
            ("doorbell_lost", "warning")
        ]


def test_without_redis_jobs_are_accepted_all_the_same(settings: Settings, nowhere: str) -> None:
    lonely = settings.model_copy(update={"redis_url": f"redis://{nowhere}/0"})
    with open_app(lonely) as client:
        tenant = Tenancy(client, client.app.state.runtime, name="lonely")  # type: ignore[attr-defined]
        tenant.register_model()
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"], ready.json()["queue"]) == (200, "degraded", "away")
        assert "lorikeet_queue_up 0.0" in client.get("/metrics").text
        assert tenant.generate().status_code == 202
        assert tenant.claim().plan["prompt"] == "a star"


def test_without_the_store_text_to_image_is_accepted_and_pictures_are_not(settings: Settings, nowhere: str) -> None:
    lonely = settings.model_copy(update={"s3_endpoint_url": f"http://{nowhere}"})
    with open_app(lonely) as client:
        tenant = Tenancy(client, client.app.state.runtime, name="lonely")  # type: ignore[attr-defined]
        tenant.register_model()
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["store"]) == (503, "away")
        assert tenant.generate().status_code == 202
        from tests.integration.api.test_dataset import upload

        answer = upload(tenant, "a", "b")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_what_is_away_is_told_in_plain_words_and_the_log_has_the_cause(settings: Settings, nowhere: str) -> None:
    from tests.integration.api.test_dataset import upload

    with (
        open_app(settings.model_copy(update={"s3_endpoint_url": f"http://{nowhere}"})) as client,
        capture_logs() as log,
    ):
        answer = upload(Tenancy(client, client.app.state.runtime, name="lonely"))  # type: ignore[attr-defined]
    assert (answer.status_code, answer.json()["detail"]) == (503, "The object store did not take a file.")
    causes = [line["error"] for line in log if line["event"] == "store_failed"]
    assert causes
    assert all(nowhere in cause for cause in causes)
    lonely = settings.model_copy(update={"database_url": f"postgresql://nobody@{nowhere}/none"})
    with open_app(lonely) as client, capture_logs() as log:
        answer = client.get("/api/jobs", headers={"Authorization": f"Bearer {make_key()}"})
    assert (answer.status_code, answer.json()["detail"]) == (503, "The database is not reachable right now.")
    assert [nowhere.partition(":")[2] in line["error"] for line in log if line["event"] == "database_failed"] == [True]


def test_prometheus_sees_requests_jobs_and_workers(tenant: Tenancy) -> None:
    tenant.register_model()
    tenant.generate()
    with tenant.runtime.database.transaction() as session:
        runs.say_alive(session, worker_id="w", kind=WorkerKind.GENERATION, slots=4)
    text = tenant.http.get("/metrics").text
    for line in (
        'lorikeet_http_requests_total{method="POST",route="/api/generate",status="202"} 1.0',
        'lorikeet_jobs{kind="generation",status="queued"} 1.0',
        'lorikeet_jobs{kind="registration",status="succeeded"} 1.0',
        'lorikeet_queue_length{kind="generation"} 1.0',
        'lorikeet_queue_length{kind="training"} 0.0',
        'lorikeet_workers_alive{kind="generation"} 1.0',
        'lorikeet_workers_alive{kind="training"} 0.0',
        'lorikeet_workers_alive{kind="upkeep"} 0.0',
        'lorikeet_http_requests_total{method="POST",route="/api/generate",status="500"} 0.0',
        'lorikeet_jobs_failed{code="poisoned",kind="training"} 0.0',
        "lorikeet_jobs_overdue_seconds 0.0",
        "lorikeet_queue_up 1.0",
        "lorikeet_database_up 1.0",
        "process_resident_memory_bytes",
    ):
        assert line in text, line


def test_prometheus_sees_what_the_workers_hold(tenant: Tenancy) -> None:
    tiers = {"host": Residency(2, 3000, 5, 3), "device": Residency(1, 1000, 4, 1)}
    holding = Holding(models={uuid4(): "sd", uuid4(): "sdxl"}, adapters=tiers)
    with tenant.runtime.database.transaction() as session:
        runs.say_alive(session, worker_id="w", kind=WorkerKind.GENERATION, slots=4, holds=holding)
        runs.say_alive(session, worker_id="t", kind=WorkerKind.TRAINING, slots=1)
        runs.say_alive(session, worker_id="gone", kind=WorkerKind.GENERATION, slots=4, holds=holding)
        session.execute(text("UPDATE worker_presence SET seen_at = now() - interval '1 minute' WHERE id = 'gone'"))
    shown = [line for line in tenant.http.get("/metrics").text.splitlines() if 'worker="' in line]
    assert shown == [
        'lorikeet_models_resident{worker="w"} 2.0',
        'lorikeet_adapters_resident{tier="host",worker="w"} 2.0',
        'lorikeet_adapters_resident{tier="device",worker="w"} 1.0',
        'lorikeet_adapter_bytes{tier="host",worker="w"} 3000.0',
        'lorikeet_adapter_bytes{tier="device",worker="w"} 1000.0',
        'lorikeet_adapter_hits_total{tier="host",worker="w"} 5.0',
        'lorikeet_adapter_hits_total{tier="device",worker="w"} 4.0',
        'lorikeet_adapter_misses_total{tier="host",worker="w"} 3.0',
        'lorikeet_adapter_misses_total{tier="device",worker="w"} 1.0',
    ]


def test_however_often_somebody_asks_the_systems_behind_are_asked_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of the two, that is."""
    asked: list[str] = []

    def note(place: Any, name: str) -> None:
        ask = getattr(place, name)

        def noted(*given: Any) -> Any:
            asked.append(f"{place.__name__}.{name}")
            return ask(*given)

        monkeypatch.setattr(place, name, noted)

    for name in ("METRIC_SECONDS", "REACH_SECONDS"):
        monkeypatch.setattr(runtimes, name, inf)
    for place, name in ((census, "take"), (Database, "check"), (ObjectStore, "check"), (TaskQueue, "is_reachable")):
        note(place, name)
    with open_app(settings) as client, ThreadPoolExecutor(8) as pool:
        paths = ["/metrics", "/readyz"] * 8
        assert [answer.status_code for answer in pool.map(client.get, paths)] == [200] * len(paths)
        counted = client.get("/metrics").text
    assert sorted(asked) == [
        "Database.check",
        "ObjectStore.check",
        "TaskQueue.is_reachable",
        "TaskQueue.is_reachable",
        "core.services.census.take",
    ]
    assert 'lorikeet_http_requests_total{method="GET",route="/metrics",status="200"} 8.0' in counted


def test_unknown_paths_share_one_label(tenant: Tenancy) -> None:
    for path in ("/nope/1", "/nope/2"):
        tenant.http.get(path)
    text = tenant.http.get("/metrics").text
    assert 'route="unknown",status="404"} 2.0' in text
    assert "nope" not in text


def test_strange_methods_share_one_label(tenant: Tenancy) -> None:
    for number in range(3):
        assert tenant.call(f"BREW{number}", "/api/jobs").status_code == 405
    text = tenant.http.get("/metrics").text
    assert 'lorikeet_http_requests_total{method="other",route="/api/jobs",status="405"} 3.0' in text
    assert "BREW" not in text
