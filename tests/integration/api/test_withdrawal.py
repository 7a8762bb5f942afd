"""Feedback taken back over HTTP: what is kept, what is told, and what has to be replaced."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from core.domain.adapter import AdapterStage
from core.domain.job import JobKind
from core.domain.model_update import ModelUpdateStatus
from core.domain.policy import SelectionPolicy, UpdatePolicy
from core.infra.table import Adapter, Job, ModelUpdate, TrainingData, UserFeedback
from core.services import selection as selections
from tests.api_bench import Tenancy

OPEN = SelectionPolicy(max_user_share=1.0)


@pytest.fixture
def outputs(tenant: Tenancy) -> list[dict[str, Any]]:
    tenant.register_model()
    return tenant.draw_several(count=4, prompt="a star")


def like(tenant: Tenancy, output: dict[str, Any], *, user_ref: str = "ann", **fields: Any) -> str:
    body = {"kind": "thumb", "image_id": output["id"], "liked": True, "user_ref": user_ref} | fields
    return str(tenant.post("/api/feedback", json=body).json()["id"])


def trained(tenant: Tenancy, status: ModelUpdateStatus, stage: AdapterStage | None = None) -> UUID:
    """An update that trains on all that counts now, in a state of its life, with what it made."""
    with tenant.runtime.database.transaction() as session:
        model_id = session.scalars(select(UserFeedback.stable_diffusion_id).limit(1)).one()
        policy = UpdatePolicy(forget_hours=48.0).model_dump(mode="json")
        job = Job(tenant_id=tenant.id, kind=JobKind.MODEL_UPDATE, spec={}, plan={}, base_model_id=model_id)
        session.add(job)
        session.flush()
        update = ModelUpdate(tenant_id=tenant.id, stable_diffusion_id=model_id, status=status, policy=policy)
        update.job_id = job.id
        session.add(update)
        session.flush()
        chosen = selections.select(session, tenant_id=tenant.id, model_id=model_id, policy=OPEN)
        selections.freeze(session, update, chosen)
        if stage is not None:
            version = 1 + len(session.scalars(select(Adapter)).all())
            facts = {"rank": 4, "alpha": 4.0, "object_key": "a", "sha256": "0" * 64, "size_bytes": 1, "manifest": {}}
            place = {"tenant_id": tenant.id, "base_model_id": model_id, "model_update_id": update.id}
            session.add(Adapter(name="learned", version=version, stage=stage, **place, **facts))
        return update.id


def read(tenant: Tenancy, update_id: UUID) -> ModelUpdate:
    with tenant.runtime.database.transaction() as session:
        return session.get_one(ModelUpdate, update_id)


def test_what_is_withdrawn_is_gone_but_for_a_row_without_words(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    first = like(tenant, outputs[0], comment="mine", tags=["mine"])
    last = like(tenant, outputs[0], liked=False)
    other = like(tenant, outputs[0], user_ref="bob")
    answer = tenant.call("DELETE", f"/api/feedback/{last}")
    assert answer.status_code == 200
    assert answer.json() == {"withdrawn": 1, "updates": [], "adapters": [], "retrain_by": None}
    for gone in (first, last):
        assert tenant.get(f"/api/feedback/{gone}").status_code == 404
        assert tenant.call("DELETE", f"/api/feedback/{gone}").status_code == 404
    assert [each["id"] for each in tenant.get("/api/feedback").json()["items"]] == [other]
    with tenant.runtime.database.transaction() as session:
        rows = [session.get_one(UserFeedback, each) for each in (first, last)]
        assert all((row.comment, row.tags) == (None, []) for row in rows)
        assert all(row.user_ref.startswith("withdrawn:") and row.withdrawn_at for row in rows)
        assert rows[0].user_ref != rows[1].user_ref
    again = like(tenant, outputs[0])
    assert tenant.get(f"/api/feedback/{again}").json()["counted_in_update_id"] is None


@pytest.mark.parametrize("user_ref", ["ann", "a/b", "ü ?&#%", "..", "feedback"])
def test_a_user_is_forgotten(tenant: Tenancy, outputs: list[dict[str, Any]], user_ref: str) -> None:
    for output in outputs[:3]:
        like(tenant, output, user_ref=user_ref)
    kept = like(tenant, outputs[0], user_ref="bob")
    path = f"/api/users/{quote(user_ref, safe='').replace('.', '%2E')}/feedback"
    assert tenant.call("DELETE", path).json()["withdrawn"] == 3
    assert [each["id"] for each in tenant.get("/api/feedback").json()["items"]] == [kept]
    again = tenant.call("DELETE", path)
    assert (again.status_code, again.json()["withdrawn"]) == (200, 0)


def test_requests_made_for_a_user_forget_the_name(tenant: Tenancy) -> None:
    tenant.register_model()
    body = {"prompt": "a star", "user_ref": "ann"}
    job_id = tenant.post("/api/generate", json=body).json()["id"]
    assert tenant.call("DELETE", "/api/users/ann/feedback").status_code == 200
    with tenant.runtime.database.transaction() as session:
        assert "user_ref" not in session.get_one(Job, job_id).spec


@pytest.mark.parametrize(
    ("stage", "draws"), [(AdapterStage.RETIRED, False), (AdapterStage.REJECTED, False), (AdapterStage.CHAMPION, True)]
)
def test_what_learned_from_it_draws_no_more_once_it_does_not_serve(
    tenant: Tenancy, outputs: list[dict[str, Any]], stage: AdapterStage, draws: bool
) -> None:
    said = like(tenant, outputs[0])
    update = trained(tenant, ModelUpdateStatus.PROMOTED, stage)
    body = {"prompt": "a star", "adapters": [{"ref": "learned@1"}]}
    assert tenant.post("/api/generate", json=body).status_code == 202
    tenant.call("DELETE", f"/api/feedback/{said}")
    answer = tenant.post("/api/generate", json=body)
    assert answer.status_code == (202 if draws else 422)
    if not draws:
        [problem] = answer.json()["errors"]
        assert problem["field"] == "adapters.0.ref"
        assert problem["message"] == "learned@1 was trained on feedback that has been withdrawn since"
    assert read(tenant, update).taken_back_at is not None


def test_who_is_anothers_stays(tenant: Tenancy, stranger: Tenancy, outputs: list[dict[str, Any]]) -> None:
    said = like(tenant, outputs[0])
    assert stranger.call("DELETE", f"/api/feedback/{said}").status_code == 404
    assert stranger.call("DELETE", "/api/users/ann/feedback").json()["withdrawn"] == 0
    assert tenant.get(f"/api/feedback/{said}").status_code == 200
    assert tenant.call("DELETE", f"/api/users/{'x' * 201}/feedback").status_code == 404


def test_every_update_that_holds_it_is_told_and_what_serves_gets_a_deadline(
    tenant: Tenancy, outputs: list[dict[str, Any]]
) -> None:
    other = like(tenant, outputs[1], user_ref="bob")
    without = trained(tenant, ModelUpdateStatus.PROMOTED, AdapterStage.AVAILABLE)
    said = like(tenant, outputs[0])
    retired = trained(tenant, ModelUpdateStatus.PROMOTED, AdapterStage.RETIRED)
    champion = trained(tenant, ModelUpdateStatus.PROMOTED, AdapterStage.CHAMPION)
    failed = trained(tenant, ModelUpdateStatus.FAILED)
    at_work = trained(tenant, ModelUpdateStatus.TRAINING)
    answer = tenant.call("DELETE", f"/api/feedback/{said}").json()
    told = {UUID(each["id"]): each for each in answer["updates"]}
    assert set(told) == {retired, champion, failed, at_work}
    assert {key: each["clean_by"] is not None for key, each in told.items()} == {
        retired: False,
        champion: True,
        failed: False,
        at_work: True,
    }
    assert {each["ref"]: each["stage"] for each in answer["adapters"]} == {
        "learned@2": "retired",
        "learned@3": "champion",
    }
    assert told[champion]["adapter_id"] in {each["id"] for each in answer["adapters"]}
    assert (told[at_work]["status"], told[at_work]["adapter_id"]) == ("training", None)
    taken_back = read(tenant, champion).taken_back_at
    assert taken_back is not None
    assert datetime.fromisoformat(answer["retrain_by"]) - taken_back == timedelta(hours=48)
    assert all(read(tenant, each).taken_back_at for each in (retired, failed, at_work))
    assert read(tenant, without).taken_back_at is None
    assert tenant.get(f"/api/jobs/{read(tenant, at_work).job_id}").json()["status"] == "canceled"
    with tenant.runtime.database.transaction() as session:
        prompts = {row.feedback_id: row.prompt for row in session.scalars(select(TrainingData))}
        assert prompts == {UUID(said): "", UUID(other): "a star"}


def test_a_later_withdrawal_does_not_put_the_deadline_off(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    said = [like(tenant, output) for output in outputs[:2]]
    update = trained(tenant, ModelUpdateStatus.PROMOTED, AdapterStage.CHAMPION)
    deadlines = [tenant.call("DELETE", f"/api/feedback/{each}").json()["retrain_by"] for each in said]
    assert deadlines[0] == deadlines[1]
    assert read(tenant, update).clean_by == datetime.fromisoformat(deadlines[0])


def test_both_ratings_that_a_pair_was_made_of_are_in_it(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    ids = []
    for output, stars in zip(outputs, (5, 1), strict=False):
        body = {"kind": "rating", "image_id": output["id"], "rating": stars, "user_ref": "ann"}
        ids.append(tenant.post("/api/feedback", json=body).json()["id"])
    update = trained(tenant, ModelUpdateStatus.PROMOTED, AdapterStage.CHAMPION)
    touched = tenant.call("DELETE", f"/api/feedback/{ids[1]}").json()["updates"]
    assert [each["id"] for each in touched] == [str(update)]


def test_a_token_stays_used_after_its_word_was_taken_back(tenant: Tenancy, outputs: list[dict[str, Any]]) -> None:
    token = outputs[0]["feedback_token"]
    body = {"kind": "thumb", "image_id": outputs[0]["id"], "liked": True, "feedback_token": token}
    said = tenant.http.post("/api/feedback", json=body).json()["id"]
    assert tenant.call("DELETE", f"/api/feedback/{said}").status_code == 200
    assert tenant.http.post("/api/feedback", json=body).status_code == 409
    assert tenant.call("DELETE", f"/api/feedback/{uuid4()}").status_code == 404
