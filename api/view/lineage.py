"""Lineage as JSON: how pictures, adapters, updates and feedback lead to each other."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.link import Link
from api.view.lineage_node import (
    AdapterNode,
    FeedbackNode,
    ImageNode,
    UpdateNode,
    adapter_node,
    feedback_node,
    image_node,
    update_node,
)
from core.domain.adapter import AdapterStage
from core.domain.model_update import Split, TrainingRole
from core.infra.table import Artifact, Job, TrainingData, TrainingExclusion, UserFeedback
from core.services.lineage import Trace
from core.services.lineage_page import TracedRow


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
        **image_node(image, link).model_dump(),
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
        feedback=feedback_node(feedback, link),
        counted_in_update_id=feedback.counted_in_update_id,
        down=_trace(found, link),
    )


def _trace(found: Trace, link: Link) -> TraceView:
    return TraceView(
        adapters=[adapter_node(each, link) for each in found.adapters],
        updates=[update_node(each, link) for each in found.updates],
        rows=[_row(each, link) for each in found.rows],
        next_cursor=found.next_cursor,
        is_complete=found.is_complete,
    )


def _row(traced: TracedRow, link: Link) -> RowView:
    use = traced.use
    used = use if isinstance(use, TrainingData) else None
    left_out = use if isinstance(use, TrainingExclusion) else None
    return RowView(
        depth=traced.depth,
        feedback=feedback_node(traced.feedback, link),
        image=image_node(traced.image, link),
        update_id=use.model_update_id if use else None,
        prompt=used.prompt if used else None,
        role=TrainingRole(used.role) if used else None,
        split=Split(used.split) if used else None,
        weight=used.weight if used else None,
        excluded_by=left_out.rule if left_out else None,
        detail=left_out.detail if left_out else None,
    )
