"""Lineage over HTTP: from a picture back to feedback, and from feedback on, over two turns of the wheel."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterStage
from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus, Split, TrainingRole
from core.infra.table import Adapter, Artifact, ModelUpdate, TrainingData, TrainingExclusion, UserFeedback
from core.services.transition import move_adapter
from tests.api_bench import Tenancy

DIGEST = "0" * 64


class Wheel:
    """Two turns: feedback on the base's pictures made the first adapter, feedback on its pictures the second."""

    def __init__(self, tenant: Tenancy, model_id: UUID) -> None:
        self.tenant, self.model_id = tenant, model_id
        with tenant.runtime.database.transaction() as session:
            self.chosen, self.rejected = self.picture(session), self.picture(session)
            self.choice = self.say(session, self.chosen, kind=FeedbackKind.CHOICE, rejected_image_id=self.rejected)
            self.comment = self.say(session, self.chosen, kind=FeedbackKind.COMMENT, comment="lovely")
            self.first_update, self.first = self.turn(session, 1, [self.choice], left_out=[self.comment])
        with tenant.runtime.database.transaction() as session:
            before = session.get_one(Adapter, self.first)
            move_adapter(session, before, AdapterStage.RETIRED, actor="person", reason="another came")
            self.liked = self.picture(session, self.first)
            self.thumb = self.say(session, self.liked, kind=FeedbackKind.THUMB, liked=True)
            self.second_update, self.second = self.turn(
                session, 2, [self.choice, self.thumb], left_out=[self.comment], split=Split.HELD_OUT
            )
            self.newest = self.picture(session, self.second)

    def picture(self, session: Session, adapter: UUID | None = None) -> UUID:
        image_id = UUID(self.tenant.draw())
        if adapter is not None:
            image = session.get_one(Artifact, image_id)
            image.adapters = [{"id": str(adapter), "name": "learned", "version": 1, "weight": 1.0}]
            session.flush()
        return image_id

    def say(self, session: Session, image_id: UUID, **fields: Any) -> UUID:
        feedback = UserFeedback(
            tenant_id=self.tenant.id,
            stable_diffusion_id=self.model_id,
            image_id=image_id,
            user_ref="ada",
            subject=f"{fields['kind']}:{image_id}",
            **fields,
        )
        session.add(feedback)
        session.flush()
        return feedback.id

    def turn(
        self,
        session: Session,
        version: int,
        used: Sequence[UUID],
        *,
        left_out: Sequence[UUID],
        split: Split = Split.TRAIN,
    ) -> tuple[UUID, UUID]:
        update = ModelUpdate(
            tenant_id=self.tenant.id,
            stable_diffusion_id=self.model_id,
            status=ModelUpdateStatus.PROMOTED,
            manifest_sha256=DIGEST,
        )
        session.add(update)
        session.flush()
        for feedback_id in used:
            feedback = session.get_one(UserFeedback, feedback_id)
            feedback.counted_in_update_id = feedback.counted_in_update_id or update.id
            sides = [(feedback.image_id, TrainingRole.LIKED)]
            if feedback.rejected_image_id is not None:
                sides = [
                    (feedback.image_id, TrainingRole.CHOSEN),
                    (feedback.rejected_image_id, TrainingRole.REJECTED),
                ]
            for image_id, role in sides:
                session.add(self.row(update, feedback_id, image_id, role, split))
                session.flush()
        session.add_all(
            TrainingExclusion(model_update_id=update.id, feedback_id=each, rule="comment", detail="never a gradient")
            for each in left_out
        )
        return update.id, self.adapter(session, update, version)

    def row(
        self, update: ModelUpdate, feedback_id: UUID, image_id: UUID, role: TrainingRole, split: Split
    ) -> TrainingData:
        return TrainingData(
            model_update_id=update.id,
            position=list(TrainingRole).index(role),
            feedback_id=feedback_id,
            image_id=image_id,
            prompt="a star",
            role=role,
            split=split,
        )

    def adapter(self, session: Session, update: ModelUpdate, version: int) -> UUID:
        adapter = Adapter(
            tenant_id=self.tenant.id,
            base_model_id=self.model_id,
            model_update_id=update.id,
            name="learned",
            version=version,
            stage=AdapterStage.CANDIDATE,
            rank=4,
            alpha=4.0,
            object_key="adapter",
            sha256=DIGEST,
            size_bytes=1,
            manifest={"model": "lorikeet-tiny"},
        )
        session.add(adapter)
        session.flush()
        move_adapter(session, adapter, AdapterStage.CHAMPION, actor="test", reason="better")
        return adapter.id

    def get(self, path: str) -> Any:
        answer = self.tenant.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def wheel(tenant: Tenancy, model_id: UUID) -> Wheel:
    return Wheel(tenant, model_id)


def depths(nodes: Sequence[dict[str, Any]]) -> list[tuple[int, UUID]]:
    return [(node["depth"], UUID(node["id"])) for node in nodes]


def uses(trace: dict[str, Any]) -> list[tuple[int, UUID, UUID, str | None]]:
    """(depth, feedback, picture, role or rule) of each row."""
    return [
        (row["depth"], UUID(row["feedback"]["id"]), UUID(row["image"]["id"]), row["role"] or row["excluded_by"])
        for row in trace["rows"]
    ]


def test_a_picture_leads_back_to_all_the_feedback_behind_it(wheel: Wheel) -> None:
    found = wheel.get(f"/api/images/{wheel.newest}/lineage")
    assert (found["image"]["prompt"], found["image"]["model"], found["image"]["seed"]) == ("a star", "lorikeet-tiny", 1)
    assert found["image"]["settings"]["steps"] == 20
    up = found["up"]
    assert depths(up["adapters"]) == [(1, wheel.second), (2, wheel.first)]
    assert depths(up["updates"]) == [(1, wheel.second_update), (2, wheel.first_update)]
    assert uses(up) == [
        (1, wheel.thumb, wheel.liked, "liked"),
        (1, wheel.choice, wheel.chosen, "chosen"),
        (1, wheel.choice, wheel.rejected, "rejected"),
        (2, wheel.choice, wheel.chosen, "chosen"),
        (2, wheel.choice, wheel.rejected, "rejected"),
    ]
    assert up["rows"][0]["image"]["adapters"][0]["id"] == str(wheel.first)
    assert (up["is_complete"], up["next_cursor"]) == (True, None)
    second = up["updates"][0]
    assert (second["train"], second["held_out"], second["excluded"]) == (0, 2, 1)
    assert (found["down"]["rows"], found["down"]["updates"]) == ([], [])


def test_feedback_leads_on_to_every_adapter_it_shaped(wheel: Wheel) -> None:
    found = wheel.get(f"/api/feedback/{wheel.choice}/influence")
    assert found["counted_in_update_id"] == str(wheel.first_update)
    down = found["down"]
    assert depths(down["updates"]) == [(1, wheel.first_update), (1, wheel.second_update)]
    assert depths(down["adapters"]) == [(1, wheel.first), (1, wheel.second)]
    assert [adapter["images"] for adapter in down["adapters"]] == [1, 1]
    assert [(move["before"], move["after"], move["reason"]) for move in down["adapters"][0]["history"]] == [
        ("candidate", "champion", "better"),
        ("champion", "retired", "another came"),
    ]
    assert [(row["role"], row["split"], row["weight"]) for row in down["rows"]] == [
        ("chosen", "train", 1.0),
        ("rejected", "train", 1.0),
        ("chosen", "held_out", 1.0),
        ("rejected", "held_out", 1.0),
    ]


def test_feedback_that_was_left_out_names_the_rule_and_shapes_nothing(wheel: Wheel) -> None:
    down = wheel.get(f"/api/feedback/{wheel.comment}/influence")["down"]
    assert [(row["update_id"], row["excluded_by"], row["detail"]) for row in down["rows"]] == [
        (str(update), "comment", "never a gradient") for update in (wheel.first_update, wheel.second_update)
    ]
    assert down["adapters"] == []


def test_a_picture_leads_on_through_the_feedback_on_it(wheel: Wheel) -> None:
    down = wheel.get(f"/api/images/{wheel.rejected}/lineage")["down"]
    assert uses(down)[0] == (0, wheel.choice, wheel.chosen, None)
    assert {row["update_id"] for row in down["rows"][1:]} == {str(wheel.first_update), str(wheel.second_update)}
    assert depths(down["adapters"]) == [(1, wheel.first), (1, wheel.second)]


def test_an_adapter_leads_both_ways(wheel: Wheel) -> None:
    found = wheel.get(f"/api/adapters/{wheel.first}/lineage")
    assert found["ref"] == "learned@1"
    assert depths(found["up"]["adapters"]) == [(1, wheel.first)]
    assert [use[1:] for use in uses(found["up"])] == [
        (wheel.choice, wheel.chosen, "chosen"),
        (wheel.choice, wheel.rejected, "rejected"),
    ]
    assert uses(found["down"]) == [(0, wheel.thumb, wheel.liked, None), (1, wheel.thumb, wheel.liked, "liked")]
    assert depths(found["down"]["adapters"]) == [(1, wheel.second)]


def test_the_walk_can_be_short_and_says_that_it_is(wheel: Wheel) -> None:
    up = wheel.get(f"/api/images/{wheel.newest}/lineage?depth=1")["up"]
    assert depths(up["adapters"]) == [(1, wheel.second)]
    assert not up["is_complete"]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_pages_are_the_whole_in_pieces(wheel: Wheel, direction: str) -> None:
    for place in (f"images/{wheel.newest}", f"images/{wheel.chosen}", f"adapters/{wheel.first}"):
        path = f"/api/{place}/lineage"
        whole = wheel.get(path)[direction]["rows"]
        cursor, pieces = wheel.get(f"{path}?limit=1")[direction]["next_cursor"], whole[:1]
        while cursor is not None:
            page = wheel.get(f"{path}?limit=1&cursor={cursor}")
            assert page[{"up": "down", "down": "up"}[direction]] is None
            pieces += page[direction]["rows"]
            cursor = page[direction]["next_cursor"]
        assert pieces == whole, place


def test_a_cursor_of_another_place_is_refused(wheel: Wheel) -> None:
    cursor = wheel.get(f"/api/images/{wheel.newest}/lineage?limit=1")["up"]["next_cursor"]
    for path in (
        f"/api/images/{wheel.chosen}/lineage?cursor={cursor}",
        f"/api/feedback/{wheel.choice}/influence?cursor={cursor}",
        f"/api/images/{wheel.newest}/lineage?cursor=x",
    ):
        answer = wheel.tenant.get(path)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "cursor"), path


def test_what_was_withdrawn_is_told_without_its_words(wheel: Wheel) -> None:
    with wheel.tenant.runtime.database.transaction() as session:
        session.get_one(UserFeedback, wheel.thumb).withdrawn_at = func.now()
    [row, *_] = wheel.get(f"/api/images/{wheel.newest}/lineage")["up"]["rows"]
    told = row["feedback"]
    assert (told["withdrawn"], told["user_ref"], told["liked"], told["comment"]) == (True, None, None, None)


def test_a_strangers_lineage_does_not_exist(wheel: Wheel, stranger: Tenancy) -> None:
    paths = [
        f"/api/images/{wheel.newest}/lineage",
        f"/api/adapters/{wheel.first}/lineage",
        f"/api/feedback/{wheel.choice}/influence",
    ]
    for path in paths:
        answer = stranger.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert wheel.tenant.get(path.replace(path.split("/")[3], str(uuid4()))).status_code == 404
