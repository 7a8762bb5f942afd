"""Feedback over HTTP: every kind, every refusal, the latest word counts."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text

from core.domain.model_update import ModelUpdateStatus
from core.domain.policy import SelectionPolicy, UpdatePolicy
from core.domain.rollout import Arm, RolloutKind
from core.infra.table import Adapter, ModelUpdate, Rollout, UpdatePolicyRow, UserFeedback
from core.services import model_update as model_updates
from tests.api_bench import Tenancy, encode, lora


def thumb(tenant: Tenancy, image: str, *, liked: Any = True, user_ref: str | None = "ann", **fields: Any) -> Any:
    body = {"kind": "thumb", "image_id": image, "liked": liked, "user_ref": user_ref} | fields
    return tenant.post("/api/feedback", json={name: value for name, value in body.items() if value is not None})


def choose(tenant: Tenancy, chosen: str, rejected: str, *, user_ref: str = "ann") -> Any:
    body = {"kind": "choice", "chosen": chosen, "rejected": rejected, "user_ref": user_ref}
    return tenant.post("/api/feedback", json=body)


@pytest.fixture
def images(tenant: Tenancy) -> list[str]:
    tenant.register_model()
    return [output["id"] for output in tenant.draw_several(count=3, prompt="a star")]


def test_every_kind_is_kept_as_it_was_said(tenant: Tenancy, images: list[str]) -> None:
    said: list[dict[str, Any]] = [
        {"kind": "thumb", "image_id": images[0], "liked": False, "tags": ["hands", "blurry"]},
        {"kind": "rating", "image_id": images[1], "rating": 4, "comment": "nearly"},
        {"kind": "comment", "image_id": images[0], "comment": "ünïcode 🦜"},
        {"kind": "choice", "chosen": images[1], "rejected": images[0]},
    ]
    for body in said:
        answer = tenant.post("/api/feedback", json=body | {"user_ref": "ann"})
        assert answer.status_code == 201, answer.text
        shown = answer.json()
        assert shown.items() >= body.items()
        assert (shown["user_ref"], shown["by_token"], shown["adapter"], shown["arm"]) == ("ann", False, None, None)
        assert tenant.get(answer.headers["Location"]).json() == shown
        assert shown["urls"]["influence"].endswith(f"/api/feedback/{shown['id']}/influence")
    assert [each["kind"] for each in tenant.get("/api/feedback").json()["items"]] == [
        "choice",
        "comment",
        "rating",
        "thumb",
    ]
    assert shown["side"] == 1


def test_the_latest_word_of_a_user_on_an_image_counts(tenant: Tenancy, images: list[str]) -> None:
    first = thumb(tenant, images[0]).json()
    thumb(tenant, images[0], user_ref="bob")
    rating = {"kind": "rating", "image_id": images[0], "rating": 1, "user_ref": "ann"}
    second = tenant.post("/api/feedback", json=rating).json()
    listed = tenant.get("/api/feedback?user_ref=ann").json()["items"]
    assert [each["id"] for each in listed] == [second["id"]]
    assert tenant.get(f"/api/feedback/{first['id']}").json()["superseded_at"] is not None
    choose(tenant, images[0], images[1])
    choose(tenant, images[1], images[0])
    [choice] = [each for each in tenant.get("/api/feedback").json()["items"] if each["kind"] == "choice"]
    assert choice["chosen"] == images[1]


def test_a_changed_mind_counts_towards_no_other_update(tenant: Tenancy, images: list[str]) -> None:
    first = thumb(tenant, images[0]).json()["id"]
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(UserFeedback, first)
        update = ModelUpdate(
            tenant_id=tenant.id, stable_diffusion_id=row.stable_diffusion_id, status=ModelUpdateStatus.REJECTED
        )
        session.add(update)
        session.flush()
        row.counted_in_update_id = update.id
    again = thumb(tenant, images[0], liked=False).json()
    assert again["counted_in_update_id"] == str(update.id)


def test_lists_go_by_user_by_model_and_in_pages(tenant: Tenancy, images: list[str]) -> None:
    ids = [thumb(tenant, image, user_ref=f"user-{index}").json()["id"] for index, image in enumerate(images)]
    first = tenant.get("/api/feedback?limit=2").json()
    rest = tenant.get(f"/api/feedback?limit=2&cursor={first['next_cursor']}").json()
    assert [each["id"] for each in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert [each["id"] for each in tenant.get("/api/feedback?user_ref=user-1").json()["items"]] == [ids[1]]
    model = tenant.get("/api/models").json()["items"][0]["id"]
    assert len(tenant.get(f"/api/feedback?model_id={model}").json()["items"]) == 3
    assert tenant.get(f"/api/feedback?model_id={uuid4()}").json()["items"] == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": None}, "kind"),
        ({"kind": "love"}, "kind"),
        ({"liked": None}, "liked"),
        ({"liked": "yes"}, "liked"),
        ({"rating": 4}, "rating"),
        ({"kind": "rating", "liked": None}, "rating"),
        ({"kind": "rating", "liked": None, "rating": 6}, "rating"),
        ({"kind": "comment", "liked": None}, "comment"),
        ({"comment": "x" * 2001}, "comment"),
        ({"kind": "comment", "liked": None, "comment": ""}, "comment"),
        ({"user_ref": None}, "user_ref"),
        ({"user_ref": ""}, "user_ref"),
        ({"user_ref": "a\x00"}, "user_ref"),
        ({"image_id": "17"}, "image_id"),
        ({"image_id": str(uuid4())}, "image_id"),
        ({"tags": ["a", ""]}, "tags.1"),
        ({"feedback_token": "x"}, "feedback_token"),
    ],
)
def test_what_is_wrong_is_named(tenant: Tenancy, images: list[str], changes: dict[str, Any], field: str) -> None:
    body = {"kind": "thumb", "image_id": images[0], "liked": True, "user_ref": "ann"} | changes
    answer = tenant.post("/api/feedback", json={name: value for name, value in body.items() if value is not None})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert tenant.get("/api/feedback").json()["items"] == []


def test_a_body_that_is_no_object(tenant: Tenancy, images: list[str]) -> None:
    assert tenant.post("/api/feedback", json=[]).status_code == 422
    assert tenant.post("/api/feedback", content=b"", headers={"Content-Type": "application/json"}).status_code == 422
    assert tenant.http.post("/api/feedback").status_code in (401, 415)


def test_what_is_not_a_picture_of_yours_cannot_be_judged(tenant: Tenancy, stranger: Tenancy, images: list[str]) -> None:
    adapter, sample = tenant.draw(kind="adapter"), tenant.draw(kind="sample")
    foreign = stranger.draw()
    for image in (adapter, sample, foreign):
        answer = thumb(tenant, image)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "image_id")
        assert choose(tenant, images[0], image).json()["errors"][0]["field"] == "rejected"
        assert choose(tenant, image, images[0]).json()["errors"][0]["field"] == "chosen"


def test_a_choice_is_between_two_pictures_of_one_prompt_and_model(tenant: Tenancy, images: list[str]) -> None:
    assert "another image" in choose(tenant, images[0], images[0]).json()["errors"][0]["message"]
    other = tenant.draw_several(prompt="a heart")[0]["id"]
    assert "another prompt" in choose(tenant, images[0], other).json()["errors"][0]["message"]
    tenant.register_model("other")
    elsewhere = tenant.draw_several(prompt="a star", model="other")[0]["id"]
    assert "another base model" in choose(tenant, images[0], elsewhere).json()["errors"][0]["message"]
    again = tenant.draw_several(prompt="a star")[0]["id"]
    assert choose(tenant, images[0], again).status_code == 201


def test_the_adapter_and_the_live_comparison_are_kept(tenant: Tenancy, images: list[str]) -> None:
    made = tenant.post("/api/adapters", data={"name": "style"}, files={"file": encode(lora())}).json()
    with tenant.runtime.database.transaction() as session:
        adapter = session.get_one(Adapter, made["id"])
        rollout = Rollout(
            tenant_id=tenant.id,
            stable_diffusion_id=adapter.base_model_id,
            kind=RolloutKind.CANARY,
            challenger_id=adapter.id,
            share=0.5,
        )
        session.add(rollout)
    credit = {"id": made["id"], "name": "style", "version": 1, "weight": 1.0, "text_encoder_weight": 1.0}
    live = {"rollout_id": rollout.id}
    [new] = tenant.draw_several(prompt="a star", shown=live | {"adapters": [credit], "arm": Arm.CHALLENGER})
    [old] = tenant.draw_several(prompt="a star", shown=live | {"arm": Arm.INCUMBENT})
    assert (new["arm"], old["arm"]) == ("challenger", "incumbent")
    shown = choose(tenant, old["id"], new["id"]).json()
    assert (shown["adapter"], shown["arm"]) == (None, "incumbent")
    assert thumb(tenant, new["id"]).json()["adapter"] == {"id": made["id"], "ref": "style@1", "version": 1}
    apart = choose(tenant, new["id"], images[0]).json()
    assert apart["arm"] is None
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(UserFeedback, shown["id"])
        assert (row.rollout_id, row.rejected_arm, str(row.rejected_adapter_id)) == (
            rollout.id,
            Arm.CHALLENGER,
            made["id"],
        )
        assert session.get_one(UserFeedback, apart["id"]).rollout_id is None


def test_an_adapter_that_is_gone_is_not_credited(tenant: Tenancy, images: list[str]) -> None:
    credit = [{"id": str(uuid4()), "name": "style", "version": 1, "weight": 1.0, "text_encoder_weight": 1.0}]
    [output] = tenant.draw_several(shown={"adapters": credit})
    assert thumb(tenant, output["id"]).json()["adapter"] is None


def test_fifty_at_once_leave_one_word_each(tenant: Tenancy, images: list[str]) -> None:
    def say(number: int) -> int:
        return int(thumb(tenant, images[0], liked=number % 3 == 0, user_ref=f"user-{number % 5}").status_code)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(say, range(50))) == [201] * 50
    with tenant.runtime.database.transaction() as session:
        rows = session.scalars(select(UserFeedback).order_by(UserFeedback.created_at)).all()
        lasting = {row.user_ref: row.id for row in rows}
        current = {row.user_ref: row.id for row in rows if row.superseded_at is None}
        assert (len(rows), len(current)) == (50, 5)
        assert current == lasting
        counts = session.execute(text("SELECT count(*) FROM user_feedback WHERE superseded_at IS NULL")).scalar_one()
        assert counts == 5


def test_the_word_that_makes_an_update_due_starts_it(tenant: Tenancy, images: list[str]) -> None:
    small = {"min_new_labels": 2, "many_new_labels": 2, "min_users": 2, "min_likes": 1, "cooldown_hours": 0.0}
    open_to_all = {"max_user_share": 1.0, "held_out_share": 0.0}
    model = tenant.get("/api/models").json()["items"][0]["id"]
    with tenant.runtime.database.transaction() as session:
        policy = UpdatePolicy(**small, selection=SelectionPolicy(**open_to_all)).model_dump(mode="json")
        session.add(UpdatePolicyRow(tenant_id=tenant.id, stable_diffusion_id=model, policy=policy))
    first = thumb(tenant, images[0]).json()["id"]
    assert tenant.get(f"/api/feedback/{first}").json()["counted_in_update_id"] is None
    last = thumb(tenant, images[1], user_ref="bob").json()["id"]
    [update] = {tenant.get(f"/api/feedback/{each}").json()["counted_in_update_id"] for each in (first, last)}
    with tenant.runtime.database.transaction() as session:
        assert str(session.get_one(ModelUpdate, update).triggered_by_feedback_id) == last


def test_what_fails_after_the_feedback_does_not_fail_it(
    tenant: Tenancy, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no update today")

    monkeypatch.setattr(model_updates, "consider", fail)
    assert thumb(tenant, images[0]).status_code == 201
