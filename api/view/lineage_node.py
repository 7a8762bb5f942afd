"""What a lineage consists of, as JSON: adapters, updates, feedback, pictures."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.link import Link
from core.domain.adapter import AdapterStage
from core.domain.evaluation import Decision
from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus, Split, UpdateTrigger
from core.domain.rollout import Arm
from core.infra.table import Artifact, UserFeedback
from core.services.lineage import TracedAdapter, TracedUpdate


class MoveView(BaseModel):
    """An adapter's stage changed: by whom, and why."""

    before: str | None
    after: str
    actor: str
    reason: str
    at: datetime


class AdapterNode(BaseModel):
    """An adapter on the way. `history` says when it became champion, when it ceased to be, and why."""

    depth: int
    id: UUID
    ref: str
    stage: AdapterStage
    update_id: UUID | None = Field(description="the model update that made it; null for one that people made")
    job_id: UUID | None
    images: int = Field(description="pictures it drew that are still kept")
    history: Sequence[MoveView]
    url: str


class UpdateNode(BaseModel):
    """A model update on the way. `train`, `held_out` and `excluded` count feedback."""

    model_config = ConfigDict(protected_namespaces=())

    depth: int
    id: UUID
    status: ModelUpdateStatus
    trigger: UpdateTrigger
    verdict: Decision | None
    outcome_reason: str | None
    train: int
    held_out: int
    excluded: int
    manifest_sha256: str | None
    job_id: UUID | None
    replaces_update_id: UUID | None
    taken_back_at: datetime | None = Field(description="since when feedback it was trained on is withdrawn")
    created_at: datetime
    url: str


class FeedbackNode(BaseModel):
    """What somebody said. What was withdrawn is still counted here, without its words and its user."""

    id: UUID
    kind: FeedbackKind
    withdrawn: bool
    superseded: bool = Field(description="the same user said something else later")
    user_ref: str | None
    image_id: UUID
    rejected_image_id: UUID | None
    liked: bool | None
    rating: int | None
    comment: str | None
    created_at: datetime
    url: str


class ImageNode(BaseModel):
    """A picture, and with what it was drawn. `lineage` leads further."""

    id: UUID
    job_id: UUID
    seed: int | None
    sha256: str
    adapters: list[dict[str, Any]]
    arm: Arm | None
    created_at: datetime
    lineage: str


def adapter_node(traced: TracedAdapter, link: Link) -> AdapterNode:
    """An adapter on the way, as JSON."""
    adapter = traced.adapter
    return AdapterNode(
        depth=traced.depth,
        id=adapter.id,
        ref=adapter.ref,
        stage=AdapterStage(adapter.stage),
        update_id=adapter.model_update_id,
        job_id=adapter.job_id,
        images=traced.images,
        history=[
            MoveView(before=move.before, after=move.after, actor=move.actor, reason=move.reason, at=move.created_at)
            for move in traced.moves
        ],
        url=link.to(f"/api/adapters/{adapter.id}"),
    )


def update_node(traced: TracedUpdate, link: Link) -> UpdateNode:
    """An update on the way, as JSON."""
    update = traced.update
    return UpdateNode(
        depth=traced.depth,
        id=update.id,
        status=ModelUpdateStatus(update.status),
        trigger=UpdateTrigger(update.trigger),
        verdict=Decision(update.verdict["decision"]) if update.verdict else None,
        outcome_reason=update.outcome_reason,
        train=traced.counts.get(Split.TRAIN, 0),
        held_out=traced.counts.get(Split.HELD_OUT, 0),
        excluded=traced.counts.get("excluded", 0),
        manifest_sha256=update.manifest_sha256,
        job_id=update.job_id,
        replaces_update_id=update.replaces_update_id,
        taken_back_at=update.taken_back_at,
        created_at=update.created_at,
        url=link.to(f"/api/model-updates/{update.id}"),
    )


def feedback_node(feedback: UserFeedback, link: Link) -> FeedbackNode:
    """Feedback as JSON, without what was withdrawn."""
    withdrawn = feedback.withdrawn_at is not None
    return FeedbackNode(
        id=feedback.id,
        kind=FeedbackKind(feedback.kind),
        withdrawn=withdrawn,
        superseded=feedback.superseded_at is not None,
        user_ref=None if withdrawn else feedback.user_ref,
        image_id=feedback.image_id,
        rejected_image_id=feedback.rejected_image_id,
        liked=None if withdrawn else feedback.liked,
        rating=None if withdrawn else feedback.rating,
        comment=None if withdrawn else feedback.comment,
        created_at=feedback.created_at,
        url=link.to(f"/api/feedback/{feedback.id}/influence"),
    )


def image_node(image: Artifact, link: Link) -> ImageNode:
    """A picture as JSON."""
    return ImageNode(
        id=image.id,
        job_id=image.job_id,
        seed=image.seed,
        sha256=image.sha256,
        adapters=image.adapters,
        arm=Arm(image.arm) if image.arm else None,
        created_at=image.created_at,
        lineage=link.to(f"/api/images/{image.id}/lineage"),
    )
