"""Rollouts and what happened to adapters, as their owner sees them."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from core.domain.policy import RolloutPolicy
from core.domain.rollout import RolloutKind, RolloutOutcome
from core.domain.rollout_verdict import RolloutEvidence
from core.infra.table import Adapter, Rollout, Transition


class SideView(BaseModel):
    """One side of a rollout."""

    id: UUID
    ref: str
    stage: str


class RolloutView(BaseModel):
    """A challenger and an incumbent on live requests. `outcome` is null while it runs."""

    id: UUID
    kind: RolloutKind
    model_id: UUID
    model_update_id: UUID | None
    challenger: SideView
    incumbent: SideView | None = Field(description="null: the bare base model")
    share: float = Field(description="of requests that name no adapter, that a canary or a predecessor takes part in")
    policy: RolloutPolicy
    evidence: RolloutEvidence
    outcome: RolloutOutcome | None
    reason: str | None
    started_at: datetime
    ended_at: datetime | None


class TransitionView(BaseModel):
    """An adapter's stage changed, or its update's status."""

    id: UUID
    before: str | None
    after: str
    actor: str = Field(description="worker, test, guard, person, policy, withdrawal or clock")
    reason: str
    model_update_id: UUID | None
    created_at: datetime


def view(rollout: Rollout) -> RolloutView:
    """A rollout with its sides loaded, as JSON."""
    return RolloutView(
        id=rollout.id,
        kind=RolloutKind(rollout.kind),
        model_id=rollout.stable_diffusion_id,
        model_update_id=rollout.model_update_id,
        challenger=_side(rollout.challenger),
        incumbent=_side(rollout.incumbent) if rollout.incumbent else None,
        share=rollout.share,
        policy=RolloutPolicy.model_validate(rollout.policy),
        evidence=RolloutEvidence.model_validate(rollout.evidence),
        outcome=RolloutOutcome(rollout.outcome) if rollout.outcome else None,
        reason=rollout.reason,
        started_at=rollout.started_at,
        ended_at=rollout.ended_at,
    )


def _side(adapter: Adapter) -> SideView:
    return SideView(id=adapter.id, ref=adapter.ref, stage=adapter.stage)


def transition_view(transition: Transition) -> TransitionView:
    """A transition as JSON."""
    return TransitionView(
        id=transition.id,
        before=transition.before,
        after=transition.after,
        actor=transition.actor,
        reason=transition.reason,
        model_update_id=transition.model_update_id,
        created_at=transition.created_at,
    )
