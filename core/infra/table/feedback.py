"""The learning chain: UserFeedback triggers ModelUpdate, which freezes its TrainingData."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus, Split, TrainingRole
from core.infra.table.base import Base, CreatedAt, Id, TenantId, one_of

IN_FLIGHT = "status IN ('planned', 'training', 'evaluating', 'canary')"


class UserFeedback(Base):
    """What a user said of an image; the latest word of a user on an image counts.

    `user_ref` is the caller's own opaque name of the user. A choice names the rejected image too.
    """

    __tablename__ = "user_feedback"
    __table_args__ = (
        one_of("kind", FeedbackKind),
        CheckConstraint("rating IS NULL OR rating BETWEEN 1 AND 5", name="rating_in_range"),
        CheckConstraint("(kind = 'rating') = (rating IS NOT NULL)", name="rating_has_value"),
        CheckConstraint("(kind = 'thumb') = (liked IS NOT NULL)", name="thumb_has_value"),
        CheckConstraint("(kind = 'choice') = (rejected_image_id IS NOT NULL)", name="choice_has_loser"),
        CheckConstraint("rejected_image_id <> image_id", name="choice_of_two"),
        Index(
            "uq_user_feedback_latest",
            "tenant_id",
            "user_ref",
            "image_id",
            "kind",
            unique=True,
            postgresql_where=text("superseded_at IS NULL"),
        ),
        Index(
            "ix_user_feedback_uncounted", "stable_diffusion_id", postgresql_where=text("counted_in_update_id IS NULL")
        ),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    stable_diffusion_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"))
    image_id: Mapped[UUID] = mapped_column(ForeignKey("artifact.id"), index=True)
    rejected_image_id: Mapped[UUID | None] = mapped_column(ForeignKey("artifact.id"), index=True)
    adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter.id"), index=True)
    user_ref: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    liked: Mapped[bool | None]
    rating: Mapped[int | None]
    comment: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    counted_in_update_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_update.id", use_alter=True), index=True)
    superseded_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class ModelUpdate(Base):
    """One turn of the wheel, started by the feedback that made it due; at most one in flight per base model."""

    __tablename__ = "model_update"
    __table_args__ = (
        one_of("status", ModelUpdateStatus),
        Index("uq_model_update_in_flight", "stable_diffusion_id", unique=True, postgresql_where=text(IN_FLIGHT)),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    stable_diffusion_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"), index=True)
    triggered_by_feedback_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("user_feedback.id", use_alter=True), index=True
    )
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("job.id"), unique=True)
    status: Mapped[str] = mapped_column(Text, server_default=ModelUpdateStatus.PLANNED.value)
    reason: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    manifest_sha256: Mapped[str | None] = mapped_column(Text)
    verdict: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]

    training_data: Mapped[list["TrainingData"]] = relationship(back_populates="model_update")


class TrainingData(Base):
    """A frozen row of what a model update trains or evaluates on."""

    __tablename__ = "training_data"
    __table_args__ = (
        UniqueConstraint("model_update_id", "feedback_id", "role"),
        one_of("role", TrainingRole),
        one_of("split", Split),
        CheckConstraint("weight > 0", name="weight_positive"),
    )

    id: Mapped[Id]
    model_update_id: Mapped[UUID] = mapped_column(ForeignKey("model_update.id", ondelete="CASCADE"))
    feedback_id: Mapped[UUID] = mapped_column(ForeignKey("user_feedback.id"), index=True)
    image_id: Mapped[UUID] = mapped_column(ForeignKey("artifact.id"), index=True)
    prompt: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    split: Mapped[str] = mapped_column(Text)
    weight: Mapped[float] = mapped_column(server_default=text("1"))

    model_update: Mapped[ModelUpdate] = relationship(back_populates="training_data")
