"""A bench for rollouts: promote and roll back over HTTP, the worker's side of canaries and pictures by hand."""

from typing import Any
from uuid import UUID

from core.domain.model_update import ModelUpdateStatus
from core.domain.outcome import Outcome, Output
from core.domain.policy import RolloutPolicy, UpdatePolicy
from core.domain.rollout import Arm
from core.domain.rollout_verdict import Ruling
from core.infra.repository import policy as policies
from core.infra.table import Adapter, ModelUpdate
from core.services import live_test
from core.services.rollout import start_canary
from tests.api_bench import Tenancy

CHALLENGER, INCUMBENT = Arm.CHALLENGER.value, Arm.INCUMBENT.value


def promote(tenant: Tenancy, adapter: dict[str, Any], **body: Any) -> Any:
    return tenant.post(f"/api/adapters/{adapter['id']}/promote", **({"json": body} if body else {}))


def roll_back(tenant: Tenancy, adapter: dict[str, Any], **body: Any) -> Any:
    return tenant.post(f"/api/adapters/{adapter['id']}/rollback", **({"json": body} if body else {}))


def stage(tenant: Tenancy, adapter: dict[str, Any]) -> str:
    return str(tenant.get(f"/api/adapters/{adapter['id']}").json()["stage"])


def plan(tenant: Tenancy, **request: Any) -> dict[str, Any]:
    answer = tenant.generate(**request)
    assert answer.status_code == 202, answer.text
    return tenant.claim().plan


def no_watch(tenant: Tenancy, model_id: UUID, **rollout: Any) -> None:
    set_policy(tenant, model_id, **({"watch_days": 0} | rollout))


def set_policy(tenant: Tenancy, model_id: UUID, **rollout: Any) -> None:
    policy = UpdatePolicy(rollout=RolloutPolicy(**rollout)).model_dump(mode="json")
    with tenant.runtime.database.transaction() as session:
        policies.put(session, policy, tenant_id=tenant.id, model_id=model_id)


def canary(tenant: Tenancy, adapter: dict[str, Any], *, update: UUID | None = None, **policy: Any) -> None:
    with tenant.runtime.database.transaction() as session:
        start_canary(
            session,
            adapter=session.get_one(Adapter, UUID(adapter["id"])),
            update=session.get_one(ModelUpdate, update) if update else None,
            policy=RolloutPolicy(**policy),
            actor="worker",
            reason="the gates were passed",
        )


def add_update(tenant: Tenancy, model_id: UUID, adapter: dict[str, Any], **fields: Any) -> UUID:
    """An update in flight that made an adapter, as its job leaves it."""
    with tenant.runtime.database.transaction() as session:
        update = ModelUpdate(
            tenant_id=tenant.id, stable_diffusion_id=model_id, **({"status": ModelUpdateStatus.EVALUATING} | fields)
        )
        session.add(update)
        session.flush()
        session.get_one(Adapter, UUID(adapter["id"])).model_update_id = update.id
        return update.id


def status(tenant: Tenancy, update: UUID) -> str:
    with tenant.runtime.database.transaction() as session:
        return session.get_one(ModelUpdate, update).status


def look(tenant: Tenancy, model_id: UUID) -> Ruling | None:
    with tenant.runtime.database.transaction() as session:
        return live_test.look(session, tenant_id=tenant.id, model_id=model_id)


def draw(tenant: Tenancy, **request: Any) -> list[dict[str, Any]]:
    """Pictures of a request that names no adapter, stored as a worker stores them."""
    job = tenant.generate(**request).json()["id"]
    claim = tenant.claim()
    arms = (claim.plan["assignment"] or {"arms": [None] * claim.plan["num_images"]})["arms"]
    rollout = claim.plan["assignment"] and UUID(claim.plan["assignment"]["rollout_id"])
    outputs = [
        Output(
            type="image",
            object_key=f"job/{claim.job_id}/1/output/{index}.png",
            content_type="image/png",
            size_bytes=1,
            sha256="0" * 64,
            rollout_id=rollout or None,
            arm=Arm(arm) if arm else None,
        )
        for index, arm in enumerate(arms)
    ]
    tenant.finish(claim, Outcome(outputs=outputs))
    images = tenant.get(f"/api/jobs/{job}").json()["outputs"]
    return [image | {"arm": arm} for image, arm in zip(images, arms, strict=True)]


def choose(tenant: Tenancy, user: str, winner: str) -> None:
    """A user asks for two pictures and chooses that of the arm `winner`."""
    sides = {image["arm"]: image["id"] for image in draw(tenant, num_images=2, user_ref=user)}
    [loser] = set(sides) - {winner}
    body = {"kind": "choice", "chosen": sides[winner], "rejected": sides[loser], "user_ref": user}
    answer = tenant.post("/api/feedback", json=body)
    assert answer.status_code == 201, answer.text
