"""What webhooks are told, and the secrets that sign it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.webhook import WebhookEvent
from core.infra.table.base import Base, CreatedAt, Id, TenantId, one_of
from core.infra.table.job import Job


class WebhookDelivery(Base):
    """An event of a job that its webhook is told, at most one of each kind.

    `next_at` is when it is tried next, or when the one that tries it now is taken for dead; None once it was delivered
    or given up. `attempt` counts tries of this round; `status_code` and `error` are of the last that ended. `host` is
    where it goes, with the port where one is named.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        one_of("event", WebhookEvent),
        CheckConstraint(
            "(next_at IS NULL) = (delivered_at IS NOT NULL OR given_up_at IS NOT NULL)", name="open_has_next"
        ),
        UniqueConstraint("job_id", "event"),
        Index("ix_webhook_delivery_open", "tenant_id", "next_at", postgresql_where=text("next_at IS NOT NULL")),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    status_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)

    job: Mapped[Job] = relationship()


class WebhookSecret(Base):
    """What a tenant's webhooks are signed with; the secret before it signs too until `previous_until`."""

    __tablename__ = "webhook_secret"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    secret: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    previous: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime | None]
