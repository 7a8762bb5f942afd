"""Feedback as its tenant sees it, and what withdrawing it touches."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.link import Link
from core.domain.adapter import AdapterStage
from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus
from core.domain.rollout import Arm
from core.infra.table import UserFeedback
from core.services.withdrawal import Withdrawal


class MakerView(BaseModel):
    """The adapter version that made an image."""

    id: UUID
    ref: str
    version: int


class FeedbackUrls(BaseModel):
    """What can be done with feedback."""

    self: str
    influence: str


class FeedbackView(BaseModel):
    """What a user said; the fields of other kinds are null."""

    id: UUID
    kind: FeedbackKind
    image_id: UUID = Field(description="the image spoken of; of a choice, the chosen one")
    liked: bool | None
    rating: int | None
    chosen: UUID | None
    rejected: UUID | None
    comment: str | None
    tags: list[Any]
    user_ref: str
    by_token: bool = Field(description="said with a feedback token, without an API key")
    adapter: MakerView | None = Field(description="what made the image; null for the bare base model or several")
    arm: Arm | None = Field(description="side of the live comparison that made the image")
    side: int | None = Field(description="where the image stood among its request's, from 0")
    counted_in_update_id: UUID | None = Field(description="the model update that this feedback helped to start")
    superseded_at: datetime | None = Field(description="when the same user said something else on the same subject")
    created_at: datetime
    urls: FeedbackUrls


def view(row: UserFeedback, link: Link) -> FeedbackView:
    """Feedback as JSON."""
    adapter, url = row.adapter, link.to(f"/api/feedback/{row.id}")
    return FeedbackView(
        id=row.id,
        kind=FeedbackKind(row.kind),
        image_id=row.image_id,
        liked=row.liked,
        rating=row.rating,
        chosen=row.image_id if row.rejected_image_id else None,
        rejected=row.rejected_image_id,
        comment=row.comment,
        tags=row.tags,
        user_ref=row.user_ref,
        by_token=row.by_token,
        adapter=adapter and MakerView(id=adapter.id, ref=adapter.ref, version=adapter.version),
        arm=Arm(row.arm) if row.arm else None,
        side=row.side,
        counted_in_update_id=row.counted_in_update_id,
        superseded_at=row.superseded_at,
        created_at=row.created_at,
        urls=FeedbackUrls(self=url, influence=f"{url}/influence"),
    )


class TouchedUpdateView(BaseModel):
    """A model update that had trained on withdrawn feedback."""

    id: UUID
    status: ModelUpdateStatus
    adapter_id: UUID | None
    clean_by: datetime | None = Field(description="when one without it will have replaced it; null: it does not serve")


class TouchedAdapterView(BaseModel):
    """An adapter that was made from withdrawn feedback."""

    id: UUID
    ref: str
    stage: AdapterStage


class WithdrawalView(BaseModel):
    """What was taken back, and what had been made from it."""

    withdrawn: int
    updates: list[TouchedUpdateView]
    adapters: list[TouchedAdapterView]
    retrain_by: datetime | None = Field(description="when the last adapter made from it will have been replaced")


def view_withdrawal(withdrawal: Withdrawal) -> WithdrawalView:
    """A withdrawal as JSON."""
    updates = []
    for update in withdrawal.updates:
        adapter = withdrawal.adapter_of(update)
        updates.append(
            TouchedUpdateView(
                id=update.id,
                status=ModelUpdateStatus(update.status),
                adapter_id=adapter and adapter.id,
                clean_by=update.clean_by,
            )
        )
    adapters = [
        TouchedAdapterView(id=each.id, ref=each.ref, stage=AdapterStage(each.stage)) for each in withdrawal.adapters
    ]
    return WithdrawalView(
        withdrawn=withdrawal.withdrawn, updates=updates, adapters=adapters, retrain_by=withdrawal.retrain_by
    )
