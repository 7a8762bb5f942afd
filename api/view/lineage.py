"""Lineage as JSON: pictures, adapters, updates and feedback, and how each leads to the next."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.link import Link
from core.domain.adapter import AdapterStage
from core.domain.evaluation import Decision
from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus, Split, TrainingRole, UpdateTrigger
from core.domain.rollout import Arm
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, TrainingData, TrainingExclusion, UserFeedback
from core.services.lineage import Trace, TracedAdapter, TracedRow, TracedUpdate


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


class RowView(BaseModel):
    """Feedback on one picture, and how the update `update_id` treated it; null for the feedback by itself.

    `excluded_by` names the rule that left it out of the update.
    """

    depth: int
    feedback: FeedbackNode
    image: ImageNode
    update_id: UUID | None
    prompt: str | None
    role: TrainingRole | None
    split: Split | None
    weight: float | None
    excluded_by: str | None
    detail: str | None


class TraceView(BaseModel):
    """One direction, nearest first; depth 1 is one turn of the wheel away.

    Send `next_cursor` as `cursor` for more rows. `is_complete` is false where the way goes deeper than was asked for.
    """

    adapters: Sequence[AdapterNode]
    updates: Sequence[UpdateNode]
    rows: Sequence[RowView]
    next_cursor: str | None
    is_complete: bool


class OriginView(ImageNode):
    """A picture with the request that it came from."""

    model: str
    prompt: str
    negative_prompt: str
    settings: dict[str, Any] = Field(description="everything else that the picture was drawn with")


class ImageLineageView(BaseModel):
    """`up` is where the picture comes from, `down` what feedback on it changed; a cursor asks for one of them."""

    image: OriginView
    up: TraceView | None
    down: TraceView | None


class AdapterLineageView(BaseModel):
    """`up` is what the adapter was trained on, `down` what feedback on its pictures changed."""

    id: UUID
    ref: str
    stage: AdapterStage
    up: TraceView | None
    down: TraceView | None


class InfluenceView(BaseModel):
    """What came of a word of feedback."""

    feedback: FeedbackNode
    counted_in_update_id: UUID | None = Field(description="the update that it helped to make due")
    down: TraceView


def origin(image: Artifact, job: Job, link: Link) -> OriginView:
    """A picture with its request, as JSON."""
    told = {"model", "prompt", "negative_prompt", "seed", "adapters", "assignment", "init_image_key"}
    return OriginView(
        **_image(image, link).model_dump(),
        model=job.plan["model"],
        prompt=job.plan["prompt"],
        negative_prompt=job.plan["negative_prompt"],
        settings={name: value for name, value in job.plan.items() if name not in told},
    )


def trace(found: Trace | None, link: Link) -> TraceView | None:
    """One direction as JSON."""
    return None if found is None else _trace(found, link)


def influence(feedback: UserFeedback, found: Trace, link: Link) -> InfluenceView:
    """What came of feedback, as JSON."""
    return InfluenceView(
        feedback=_feedback(feedback, link),
        counted_in_update_id=feedback.counted_in_update_id,
        down=_trace(found, link),
    )


def _trace(found: Trace, link: Link) -> TraceView:
    return TraceView(
        adapters=[_adapter(each, link) for each in found.adapters],
        updates=[_update(each, link) for each in found.updates],
        rows=[_row(each, link) for each in found.rows],
        next_cursor=found.next_cursor,
        is_complete=found.is_complete,
    )


def _adapter(traced: TracedAdapter, link: Link) -> AdapterNode:
    adapter: Adapter = traced.adapter
    return AdapterNode(
        depth=traced.depth,
        id=adapter.id,
        ref=f"{adapter.name}@{adapter.version}",
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


def _update(traced: TracedUpdate, link: Link) -> UpdateNode:
    update: ModelUpdate = traced.update
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


def _row(traced: TracedRow, link: Link) -> RowView:
    use = traced.use
    used = use if isinstance(use, TrainingData) else None
    left_out = use if isinstance(use, TrainingExclusion) else None
    return RowView(
        depth=traced.depth,
        feedback=_feedback(traced.feedback, link),
        image=_image(traced.image, link),
        update_id=use.model_update_id if use else None,
        prompt=used.prompt if used else None,
        role=TrainingRole(used.role) if used else None,
        split=Split(used.split) if used else None,
        weight=used.weight if used else None,
        excluded_by=left_out.rule if left_out else None,
        detail=left_out.detail if left_out else None,
    )


def _feedback(feedback: UserFeedback, link: Link) -> FeedbackNode:
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


def _image(image: Artifact, link: Link) -> ImageNode:
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
