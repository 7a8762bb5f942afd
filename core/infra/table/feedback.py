"""The learning chain: UserFeedback triggers ModelUpdate, which freezes its TrainingData."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain import model_update
from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus, Split, TrainingRole, UpdateTrigger
from core.domain.rollout import Arm
from core.infra.table.adapter import Adapter
from core.infra.table.base import Base, CreatedAt, Id, Sha256, TenantId, one_of

CURRENT = "superseded_at IS NULL AND withdrawn_at IS NULL"
IN_FLIGHT = "status IN (" + ", ".join(f"'{status}'" for status in model_update.IN_FLIGHT) + ")"


class UserFeedback(Base):
    """What a user said of an image; the latest word of a user on a subject counts.

    `user_ref` is the caller's own opaque name of the user. A choice names the rejected image too. `subject` is what
    the word is about: an image, or two images in either order. `arm` and `rollout_id` say on which side of which live
    comparison the image was made, `side` where it stood among its request's images. What was withdrawn keeps its row,
    without its words, so that updates which used it can be told.
    """

    __tablename__ = "user_feedback"
    __table_args__ = (
        one_of("kind", FeedbackKind),
        one_of("arm", Arm),
        one_of("rejected_arm", Arm),
        CheckConstraint("rating IS NULL OR rating BETWEEN 1 AND 5", name="rating_in_range"),
        CheckConstraint("(kind = 'rating') = (rating IS NOT NULL)", name="rating_has_value"),
        CheckConstraint("(kind = 'thumb') = (liked IS NOT NULL)", name="thumb_has_value"),
        CheckConstraint("(kind = 'choice') = (rejected_image_id IS NOT NULL)", name="choice_has_loser"),
        CheckConstraint("rejected_image_id <> image_id", name="choice_of_two"),
        Index(
            "uq_user_feedback_current", "tenant_id", "user_ref", "subject", unique=True, postgresql_where=text(CURRENT)
        ),
        Index(
            "ix_user_feedback_uncounted",
            "tenant_id",
            "stable_diffusion_id",
            postgresql_where=text(f"counted_in_update_id IS NULL AND {CURRENT}"),
        ),
        Index("ix_user_feedback_live", "rollout_id", "created_at", postgresql_where=text("rollout_id IS NOT NULL")),
        Index("ix_user_feedback_listed", "tenant_id", "created_at", "id"),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    stable_diffusion_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"))
    image_id: Mapped[UUID] = mapped_column(ForeignKey("artifact.id"), index=True)
    rejected_image_id: Mapped[UUID | None] = mapped_column(ForeignKey("artifact.id"), index=True)
    adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter.id"), index=True)
    rejected_adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter.id"), index=True)
    rollout_id: Mapped[UUID | None] = mapped_column(ForeignKey("rollout.id"))
    arm: Mapped[str | None] = mapped_column(Text)
    rejected_arm: Mapped[str | None] = mapped_column(Text)
    side: Mapped[int | None]
    user_ref: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    liked: Mapped[bool | None]
    rating: Mapped[int | None]
    comment: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    by_token: Mapped[bool] = mapped_column(server_default=text("false"))
    counted_in_update_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_update.id", use_alter=True), index=True)
    superseded_at: Mapped[datetime | None]
    withdrawn_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    adapter: Mapped[Adapter | None] = relationship(foreign_keys=[adapter_id])


class UpdatePolicyRow(Base):
    """A tenant's policy for a base model, and what the last look at it found missing. Without a row: the defaults."""

    __tablename__ = "update_policy"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    stable_diffusion_id: Mapped[UUID] = mapped_column(
        ForeignKey("stable_diffusion.id", ondelete="CASCADE"), primary_key=True
    )
    policy: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    decision: Mapped[dict[str, Any] | None]
    decided_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelUpdate(Base):
    """One turn of the wheel, started by the feedback that made it due; at most one in flight per tenant and model.

    `policy` is the policy as it was, `reason` the numbers that made it due, `trained` the report and the files of the
    training, `report` what the evaluation found. `taken_back_at` is set when feedback in its training data was
    withdrawn; `clean_by` is when an update without it has to have replaced it, None once that is so; `erased_at` is
    when its files were deleted for it.
    """

    __tablename__ = "model_update"
    __table_args__ = (
        one_of("status", ModelUpdateStatus),
        one_of("trigger", UpdateTrigger),
        Index(
            "uq_model_update_in_flight",
            "tenant_id",
            "stable_diffusion_id",
            unique=True,
            postgresql_where=text(IN_FLIGHT),
        ),
        Index("ix_model_update_listed", "tenant_id", "created_at", "id"),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    stable_diffusion_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"), index=True)
    triggered_by_feedback_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("user_feedback.id", use_alter=True), index=True
    )
    replaces_update_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_update.id"), index=True)
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("job.id"), unique=True)
    trigger: Mapped[str] = mapped_column(Text, server_default=UpdateTrigger.POLICY.value)
    status: Mapped[str] = mapped_column(Text, server_default=ModelUpdateStatus.PLANNED.value)
    policy: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    reason: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    manifest_sha256: Mapped[str | None] = mapped_column(Text)
    trained: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None]
    verdict: Mapped[dict[str, Any] | None]
    outcome_reason: Mapped[str | None] = mapped_column(Text)
    decide_by: Mapped[datetime | None]
    taken_back_at: Mapped[datetime | None]
    clean_by: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]

    training_data: Mapped[list["TrainingData"]] = relationship(back_populates="model_update")


class TrainingData(Base):
    """A frozen row of what a model update trains or evaluates on; the two pictures of a choice are two rows."""

    __tablename__ = "training_data"
    __table_args__ = (
        UniqueConstraint("model_update_id", "feedback_id", "role"),
        one_of("role", TrainingRole),
        one_of("split", Split),
        CheckConstraint("weight > 0", name="weight_positive"),
    )

    id: Mapped[Id]
    model_update_id: Mapped[UUID] = mapped_column(ForeignKey("model_update.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(server_default=text("0"))
    feedback_id: Mapped[UUID] = mapped_column(ForeignKey("user_feedback.id"), index=True)
    image_id: Mapped[UUID] = mapped_column(ForeignKey("artifact.id"), index=True)
    image_sha256: Mapped[Sha256 | None]
    prompt: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    split: Mapped[str] = mapped_column(Text)
    weight: Mapped[float] = mapped_column(server_default=text("1"))

    model_update: Mapped[ModelUpdate] = relationship(back_populates="training_data")


class TrainingExclusion(Base):
    """Feedback that an update looked at and left out, and the rule that left it out."""

    __tablename__ = "training_exclusion"

    model_update_id: Mapped[UUID] = mapped_column(ForeignKey("model_update.id", ondelete="CASCADE"), primary_key=True)
    feedback_id: Mapped[UUID] = mapped_column(ForeignKey("user_feedback.id"), primary_key=True, index=True)
    rule: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text, server_default="")
