"""Training data out of Postgres: chosen in one query, frozen, read back, and the same without who was forgotten."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from core.domain.errors import DatasetUnusable
from core.domain.feedback import FeedbackKind
from core.domain.model_update import Split, TrainingRole
from core.domain.opinion import Rule
from core.domain.policy import SelectionPolicy
from core.domain.preference import PreferenceKind
from core.domain.selection import Selection
from core.infra.repository import lock
from core.infra.table import Artifact, Job, ModelUpdate, StableDiffusion, TrainingData, TrainingExclusion, UserFeedback
from core.services import selection as selections
from core.services import withdrawal as withdrawals
from core.services.tenant import create_tenant
from tests.job_bench import JobBench

OPEN = SelectionPolicy(held_out_share=0.3, max_user_share=1.0, min_overlap=1000)
START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A tenant whose users speak of pictures that are told by number, a minute between two words."""

    def __init__(self, bench: JobBench, *, tenant_id: UUID, model_id: UUID) -> None:
        self.bench, self.tenant_id, self.model_id = bench, tenant_id, model_id
        self._minutes = count()
        self._pictures: dict[tuple[object, str], UUID] = {}

    def picture(self, name: object, prompt: str, **changes: Any) -> UUID:
        if (name, prompt) not in self._pictures:
            with self.bench.database.transaction() as session:
                job = Job(tenant_id=self.tenant_id, kind="generation", spec={}, plan={"prompt": prompt})
                job.base_model_id = changes.pop("model_id", self.model_id)
                session.add(job)
                session.flush()
                values = {"type": "image", "sha256": hashlib.sha256(str(name).encode()).hexdigest()} | changes
                image = Artifact(
                    tenant_id=self.tenant_id,
                    job_id=job.id,
                    claim_epoch=1,
                    position=0,
                    object_key=f"job/{job.id}/1/output/0.png",
                    content_type="image/png",
                    size_bytes=1,
                    **values,
                )
                session.add(image)
                session.flush()
                self._pictures[name, prompt] = image.id
        return self._pictures[name, prompt]

    def say(self, name: object, *, user: str = "ann", prompt: str = "a star", over: object = None, **said: Any) -> UUID:
        """A thumb (`liked`), a rating (`rating`), a choice (`over`) or a comment (`comment`)."""
        image_id = self.picture(name, prompt)
        rejected_id = self.picture(over, prompt) if over is not None else None
        kinds = {"liked": FeedbackKind.THUMB, "rating": FeedbackKind.RATING, "comment": FeedbackKind.COMMENT}
        kind = FeedbackKind.CHOICE if over is not None else kinds[next(iter(said))]
        with self.bench.database.transaction() as session:
            row = UserFeedback(
                tenant_id=self.tenant_id,
                stable_diffusion_id=self.model_id,
                image_id=image_id,
                rejected_image_id=rejected_id,
                user_ref=user,
                subject=f"{kind}:{image_id}:{rejected_id}",
                kind=kind,
                created_at=START + timedelta(minutes=next(self._minutes)),
                **said,
            )
            session.add(row)
        return row.id

    def select(self, policy: SelectionPolicy = OPEN, **among: Any) -> Selection:
        with self.bench.database.transaction() as session:
            return selections.select(session, tenant_id=self.tenant_id, model_id=self.model_id, policy=policy, **among)

    def freeze(self, selection: Selection) -> UUID:
        with self.bench.database.transaction() as session:
            row = ModelUpdate(tenant_id=self.tenant_id, stable_diffusion_id=self.model_id)
            session.add(row)
            session.flush()
            selections.freeze(session, row, selection)
        return row.id


@pytest.fixture
def world(bench: JobBench) -> World:
    return World(bench, tenant_id=bench.tenant_id, model_id=bench.model_id)


@pytest.fixture
def elsewhere(bench: JobBench) -> World:
    with bench.database.transaction() as session:
        tenant_id = create_tenant(session, name="elsewhere").id
        model = StableDiffusion(tenant_id=tenant_id, name="model", source="/nowhere", options={}, defaults={})
        session.add(model)
    return World(bench, tenant_id=tenant_id, model_id=model.id)


def speak(world: World, *, with_eve: bool = True) -> None:
    """Everything that can be said, by three users; time goes on where Eve says nothing."""
    for number in range(12):
        for user in ("ann", "bob", "eve"):
            prompt = f"prompt {number % 4}"
            if user == "eve" and not with_eve:
                next(world._minutes)
                continue
            if number % 3 == 0:
                world.say(number, user=user, prompt=prompt, liked=number % 2 == 0)
            elif number % 3 == 1:
                world.say(number, user=user, prompt=prompt, rating=1 + (number + len(user)) % 5)
            else:
                world.say(number, user=user, prompt=prompt, over=100 + number)


def test_what_is_frozen_is_read_back_as_it_was(world: World) -> None:
    speak(world)
    world.say(50, rating=5, user="stars")
    low = world.say(51, rating=1, user="stars")
    comment = world.say(52, comment="nice")
    selection = world.select()
    assert {row.kind for row in selection.rows} == set(PreferenceKind)
    assert {row.split for row in selection.rows} == set(Split)
    update_id = world.freeze(selection)
    with world.bench.database.transaction() as session:
        manifest = selections.read_manifest(session, update_id=update_id)
        assert manifest == selection.manifest
        row = session.get_one(ModelUpdate, update_id)
        assert row.manifest_sha256 == manifest.digest
        [rejected] = session.scalars(select(TrainingData).where(TrainingData.feedback_id == low))
        assert rejected.role == TrainingRole.REJECTED
        [excluded] = session.scalars(select(TrainingExclusion).where(TrainingExclusion.feedback_id == comment))
        assert (excluded.model_update_id, excluded.rule) == (update_id, Rule.COMMENT)


def test_nothing_is_frozen_as_nothing(world: World) -> None:
    update_id = world.freeze(world.select())
    with world.bench.database.transaction() as session:
        assert selections.read_manifest(session, update_id=update_id).rows == ()


def test_only_what_counts_now_for_this_tenant_and_model_is_chosen(world: World, elsewhere: World) -> None:
    kept, superseded, withdrawn = (world.say(number, liked=True) for number in range(3))
    elsewhere.say(4, liked=True)
    with world.bench.database.transaction() as session:
        session.execute(update(UserFeedback).where(UserFeedback.id == superseded).values(superseded_at=func.now()))
        session.execute(update(UserFeedback).where(UserFeedback.id == withdrawn).values(withdrawn_at=func.now()))
    assert [row.feedback_id for row in world.select().rows] == [kept]
    among = world.select(among=[kept, superseded, withdrawn])
    assert [row.feedback_id for row in among.rows] == [kept, superseded]
    assert world.select(among=[]).rows == ()


def test_what_is_no_picture_of_the_model_is_named(world: World, elsewhere: World) -> None:
    world.picture("sample", "a star", type="sample")
    world.picture("foreign", "a star", model_id=elsewhere.model_id)
    gone, foreign = world.say("sample", liked=True), world.say("plain", over="foreign")
    found = {each.feedback_id: each.rule for each in world.select().exclusions}
    assert found == {gone: Rule.UNAVAILABLE, foreign: Rule.FOREIGN_MODEL}


def test_the_same_opinions_of_another_tenant_are_the_same_manifest(world: World, elsewhere: World) -> None:
    speak(world)
    speak(elsewhere)
    assert world.select().manifest.digest == elsewhere.select().manifest.digest
    assert world.select().rows != elsewhere.select().rows


def test_without_a_forgotten_user_the_manifest_is_as_if_nothing_had_been_said(world: World, elsewhere: World) -> None:
    speak(world)
    update_id = world.freeze(world.select())
    with world.bench.database.transaction() as session:
        looked_at = set(session.scalars(select(UserFeedback.id)))
        withdrawals.withdraw_user(session, tenant_id=world.tenant_id, user_ref="eve")
    speak(elsewhere, with_eve=False)
    never = elsewhere.select().manifest.digest
    assert world.select().manifest.digest == never
    assert world.select(among=looked_at).manifest.digest == never
    with world.bench.database.transaction() as session, pytest.raises(DatasetUnusable, match="withdrawn"):
        selections.read_manifest(session, update_id=update_id)


def test_who_withdraws_while_an_update_is_planned_waits_and_finds_it(world: World) -> None:
    said = world.say(1, liked=True)
    database = world.bench.database

    def withdraw() -> list[UUID]:
        with database.transaction() as session:
            found = withdrawals.withdraw(session, tenant_id=world.tenant_id, feedback_id=said)
            return [update.id for update in found.updates]

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            lock.take(session, "learning", world.tenant_id, world.model_id)
            chosen = selections.select(session, tenant_id=world.tenant_id, model_id=world.model_id, policy=OPEN)
            withdrawal = pool.submit(withdraw)
            row = ModelUpdate(tenant_id=world.tenant_id, stable_diffusion_id=world.model_id)
            session.add(row)
            session.flush()
            selections.freeze(session, row, chosen)
            with pytest.raises(TimeoutError):
                withdrawal.result(timeout=0.2)
        assert withdrawal.result(timeout=30) == [row.id]
