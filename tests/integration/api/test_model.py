"""Base models over HTTP, up to the registration job's row."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text

from core.domain.base_model import ModelFacts, ModelFamily, ModelStatus
from core.domain.errors import ModelUnusable
from core.domain.generation import GenerationDefaults, SchedulerName
from core.domain.job import JobKind
from core.domain.outcome import Outcome
from core.infra.repository import lock
from core.infra.settings import Settings
from core.infra.table import StableDiffusion
from core.services import model as models
from core.services import run as runs
from tests.api_bench import Tenancy, open_app

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["field"] for error in answer.json()["errors"]}


def register(tenant: Tenancy, **changes: Any) -> Any:
    return tenant.post("/api/models", json={"name": "mine", "source": "owner/name", "revision": COMMIT} | changes)


def fail_check(tenant: Tenancy) -> None:
    with tenant.runtime.database.transaction() as session:
        runs.fail(session, tenant.claim(JobKind.REGISTRATION), ModelUnusable("it has no weights"))


def test_registering_makes_a_job_that_checks(tenant: Tenancy) -> None:
    answer = register(tenant, description="good", options={"dtype": "float16", "vae_tiling": True})
    assert answer.status_code == 202
    assert answer.json()["kind"] == "registration"
    [model] = tenant.get("/api/models").json()["items"]
    assert (model["status"], model["shared"], model["family"]) == ("checking", False, None)
    assert (model["source"], model["revision"], model["options"]["dtype"]) == ("owner/name", COMMIT, "float16")
    assert tenant.claim(JobKind.REGISTRATION).plan["source"] == "owner/name"


def test_a_ready_model_shows_its_defaults(tenant: Tenancy) -> None:
    model_id = tenant.register_model()
    model = tenant.get(f"/api/models/{model_id}").json()
    assert (model["status"], model["family"], model["defaults"]["width"]) == ("ready", "sd1", 64)


def test_what_a_request_leaves_open_is_as_the_model_has_it(tenant: Tenancy) -> None:
    assert register(tenant, defaults={"steps": 4}).status_code == 202
    own = GenerationDefaults(width=1024, height=768, scheduler=SchedulerName.EULER)
    facts = ModelFacts(family=ModelFamily.FLUX, defaults=own, modules={})
    with tenant.runtime.database.transaction() as session:
        runs.finish(session, tenant.claim(JobKind.REGISTRATION), Outcome(model_facts=facts))
    [model] = tenant.get("/api/models").json()["items"]
    shown = {name: model["defaults"][name] for name in ("steps", "width", "height", "scheduler")}
    assert shown == {"steps": 4, "width": 1024, "height": 768, "scheduler": "euler"}


def test_a_name_is_taken_until_its_check_failed(tenant: Tenancy) -> None:
    assert register(tenant).status_code == 202
    assert register(tenant).status_code == 409
    fail_check(tenant)
    [model] = tenant.get("/api/models").json()["items"]
    assert (model["status"], model["status_reason"]) == ("failed", "it has no weights")
    refused = tenant.generate(model="mine")
    assert (refused.status_code, "it has no weights" in refused.text) == (409, True)
    again = register(tenant, source="other/name")
    assert again.status_code == 202
    [model] = tenant.get("/api/models").json()["items"]
    assert (model["status"], model["source"], model["status_reason"]) == ("checking", "other/name", None)


def test_a_canceled_registration_can_be_asked_for_again(tenant: Tenancy) -> None:
    job = register(tenant).json()
    tenant.post(job["urls"]["cancel"])
    assert register(tenant).status_code == 202


def reconcile(tenant: Tenancy) -> int:
    with tenant.runtime.database.transaction() as session:
        return models.reconcile(session)


def test_a_registration_that_ended_without_a_word_leaves_no_model_that_is_checked_for_ever(tenant: Tenancy) -> None:
    job = register(tenant).json()
    assert reconcile(tenant) == 0
    tenant.post(job["urls"]["cancel"])
    assert (reconcile(tenant), reconcile(tenant)) == (1, 0)
    [model] = tenant.get("/api/models").json()["items"]
    reason = "Its registration was canceled before it was checked. Register it again."
    assert (model["status"], model["status_reason"]) == ("failed", reason)
    assert register(tenant).status_code == 202
    assert reconcile(tenant) == 0


def test_a_model_that_was_found_good_meanwhile_stays_so(tenant: Tenancy) -> None:
    tenant.post(register(tenant).json()["urls"]["cancel"])
    database = tenant.runtime.database
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            lock.take(session, "base model", tenant.id, "mine")
            marked = pool.submit(reconcile, tenant)
            while not session.scalar(waiting):
                time.sleep(0.01)
            with database.transaction() as other:
                model = other.scalars(select(StableDiffusion)).one()
                model.status, model.family = ModelStatus.READY, ModelFamily.SD1
        assert marked.result() == 0
    assert tenant.get("/api/models").json()["items"][0]["status"] == "ready"


def test_equal_requests_with_one_key_register_once(tenant: Tenancy) -> None:
    body = {"name": "mine", "source": "owner/name", "revision": COMMIT}
    headers = {"Idempotency-Key": "once"}
    answers = [tenant.post("/api/models", json=body, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"revision": "main"}, {"revision"}),
        ({"revision": None}, {"revision"}),
        ({"source": "not a source"}, {"source"}),
        ({"source": "s3://bucket/prefix"}, {"revision"}),
        ({"source": "/etc", "revision": None}, {"source"}),
        ({"source": "../../etc", "revision": None}, {"source"}),
        ({"source": "a\x00b"}, {"source"}),
        ({"name": "a b"}, {"name"}),
        ({"options": {"device": "toaster"}}, {"options.device"}),
        ({"shared": True}, {"shared"}),
        ({"defaults": {"steps": "many"}}, {"defaults.steps"}),
    ],
)
def test_wrong_fields_are_named(tenant: Tenancy, changes: dict[str, Any], wrong: set[str]) -> None:
    assert fields(register(tenant, **changes)) == wrong


def test_folders_and_buckets_lie_where_tenants_may_take_models(tenant: Tenancy) -> None:
    settings = tenant.runtime.settings
    root, bucket = settings.model_dir.resolve(), settings.s3_bucket
    inside = {"name": "a", "source": str(root / "x"), "revision": None}
    assert register(tenant, **inside).status_code == 202
    outside = register(tenant, source=str(root / ".." / "secret"), revision=None)
    assert fields(outside) == {"source"}
    assert str(root) in outside.text
    assert "operator" in outside.text
    for name in ("s3", "hub", "HUB"):  # where older versions kept what they had fetched for whomever
        fetched = root / f"{name}-{'0a' * 16}"
        for folder in (fetched, fetched / "unet", root / "x" / ".." / fetched.name, f"{fetched}.part"):
            assert fields(register(tenant, source=str(folder), revision=None)) == {"source"}
    cached = settings.model_cache_dir.resolve() / "hub-x"
    assert fields(register(tenant, source=str(cached), revision=None)) == {"source"}
    mine = f"s3://{bucket}/models"
    elsewhere = ("s3://other/models/x", "s3://models-of-ours/x", f"{mine}x/y", f"{mine}/../job/x", f"{mine}//x")
    for source in (f"s3://{bucket}", f"s3://{bucket}/tenant/x", f"s3://{bucket}/job/x", *elsewhere):
        assert fields(register(tenant, source=source, revision=None)) == {"source"}
    assert register(tenant, name="b", source=f"s3://{bucket}/models/x", revision=None).status_code == 202


def test_the_operator_opens_more_of_s3_to_tenants(settings: Settings) -> None:
    opened = settings.model_copy(update={"model_sources": "s3://models-of-ours, s3://shared/sd/"})
    with open_app(opened) as client:
        tenant = Tenancy(client, client.app.state.runtime, name="opened")  # type: ignore[attr-defined]
        for name, source in (("a", "s3://models-of-ours/x"), ("b", "s3://shared/sd/x/")):
            assert register(tenant, name=name, source=source, revision=None).status_code == 202
        refused = register(tenant, source="s3://shared/sdxl/x", revision=None)
        assert fields(refused) == {"source"}
        assert "s3://models-of-ours/ or s3://shared/sd/" in refused.text
