"""What serves and why: live comparisons, and every transition of an adapter or an update with its reason."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.rollout import RolloutKind, RolloutOutcome
from core.infra.table.adapter import Adapter
from core.infra.table.base import Base, CreatedAt, Id, TenantId, one_of


class Rollout(Base):
    """A challenger and an incumbent (None: the bare base model) on live requests; at most one runs per model."""

    __tablename__ = "rollout"
    __table_args__ = (
        one_of("kind", RolloutKind),
        one_of("outcome", RolloutOutcome),
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended_has_outcome"),
        CheckConstraint("share BETWEEN 0 AND 1", name="share_in_range"),
        Index(
            "uq_rollout_running",
            "tenant_id",
            "stable_diffusion_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    stable_diffusion_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"), index=True)
    model_update_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_update.id"), index=True)
    kind: Mapped[str] = mapped_column(Text)
    challenger_id: Mapped[UUID] = mapped_column(ForeignKey("adapter.id"), index=True)
    incumbent_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter.id"), index=True)
    share: Mapped[float]
    policy: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    outcome: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]

    challenger: Mapped[Adapter] = relationship(foreign_keys=[challenger_id])
    incumbent: Mapped[Adapter | None] = relationship(foreign_keys=[incumbent_id])


class Transition(Base):
    """An adapter's stage or an update's status changed: from what, to what, by whom, and why."""

    __tablename__ = "transition"
    __table_args__ = (
        CheckConstraint("num_nonnulls(adapter_id, model_update_id) >= 1", name="has_subject"),
        Index("ix_transition_listed", "tenant_id", "stable_diffusion_id", "created_at", "id"),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    stable_diffusion_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"))
    adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter.id", ondelete="SET NULL"), index=True)
    model_update_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_update.id"), index=True)
    before: Mapped[str | None] = mapped_column(Text)
    after: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
