"""The clockwork ends rollouts, each on its own."""

from uuid import UUID

from sqlalchemy import text

from core.domain.adapter import AdapterStage
from core.domain.policy import RolloutPolicy
from core.infra.database import Database
from core.infra.table import Adapter, Rollout, StableDiffusion
from core.services.rollout import start_canary
from worker.handler.upkeep import tick
from worker.runtime import Runtime


def begin(database: Database, tenant_id: UUID, model_id: UUID) -> UUID:
    with database.transaction() as session:
        adapter = Adapter(
            tenant_id=tenant_id, base_model_id=model_id, name="style", version=1, rank=2, alpha=2.0,
            object_key="none", sha256="0" * 64, size_bytes=1, manifest={},
        )  # fmt: skip
        session.add(adapter)
        session.flush()
        rollout = start_canary(
            session,
            adapter=adapter,
            update=None,
            policy=RolloutPolicy(),
            actor="worker",
            reason="the gates were passed",
        )
        assert rollout is not None
        return rollout.id


def age(database: Database, rollout_id: UUID, *, days: int) -> None:
    with database.transaction() as session:
        session.execute(
            text("UPDATE rollout SET started_at = started_at - make_interval(days => :days) WHERE id = :id"),
            {"days": days, "id": rollout_id},
        )


def outcome(database: Database, rollout_id: UUID) -> tuple[str | None, str]:
    with database.transaction() as session:
        rollout = session.get_one(Rollout, rollout_id)
        return rollout.outcome, rollout.challenger.stage


def test_a_canary_that_nobody_asks_for_ends(
    runtime: Runtime, database: Database, tenant_id: UUID, model_id: UUID
) -> None:
    rollout_id = begin(database, tenant_id, model_id)
    tick(runtime, count=1)
    assert outcome(database, rollout_id) == (None, AdapterStage.CANARY)
    age(database, rollout_id, days=15)
    tick(runtime, count=2)
    assert outcome(database, rollout_id) == ("aborted", AdapterStage.REJECTED)


def test_a_rollout_that_cannot_be_read_keeps_no_other_from_its_end(
    runtime: Runtime, database: Database, tenant_id: UUID, model_id: UUID
) -> None:
    with database.transaction() as session:
        other = StableDiffusion(tenant_id=tenant_id, name="other", source="/nowhere", options={}, defaults={})
        session.add(other)
        session.flush()
        other_id = other.id
    broken = begin(database, tenant_id, model_id)
    with database.transaction() as session:
        session.get_one(Rollout, broken).policy = {"no such": "field"}
        session.get_one(Rollout, broken).challenger.name = "broken"
    fine = begin(database, tenant_id, other_id)
    age(database, fine, days=15)
    tick(runtime, count=1)
    assert outcome(database, broken)[0] is None
    assert outcome(database, fine)[0] == "aborted"
