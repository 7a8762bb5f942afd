"""Job and what hangs on it: its artifacts, the workers that are alive, how fast work goes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.job import STORED, JobKind, WorkerKind
from core.domain.rollout import Arm
from core.infra.table.base import Base, CreatedAt, Id, Sha256, TenantId, one_of

UNTOLD = "webhook IS NOT NULL AND webhook_noted_at IS NULL AND (started_at IS NOT NULL OR completed_at IS NOT NULL)"
"""Jobs that may have something to tell which is not yet written down."""


class Job(Base):
    """A piece of work from acceptance to its end.

    `claim_epoch` is the fence: every claim adds one, and every later write of that run names it.
    `attempt` counts errors of the work, `crash_count` leases that ran out, `interrupt_count` drains. Jobs are served
    by `place`, so that tenants take turns (see `repository/admission`); of those of one tenant the one of the lowest
    `priority` goes first, and what it passes takes its place. `webhook_noted_at` is when the last of the events that
    its webhook is told was written down.
    """

    __tablename__ = "job"
    __table_args__ = (
        one_of("status", STORED),
        one_of("kind", JobKind),
        CheckConstraint("(status = 'running') = (lease_expires_at IS NOT NULL)", name="running_has_lease"),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled', 'expired')) = (completed_at IS NOT NULL)",
            name="terminal_has_end",
        ),
        CheckConstraint("NOT (status = 'queued' AND cancel_requested)", name="canceled_not_in_line"),
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index(
            "ix_job_ready",
            "kind",
            "place",
            "created_at",
            postgresql_include=["id", "cost_seconds"],
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "ix_job_active",
            "tenant_id",
            "priority",
            "created_at",
            postgresql_include=["id", "kind", "status", "place", "cost_seconds", "claimed_at"],
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("ix_job_leased", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("ix_job_deadline", "deadline_at", postgresql_where=text("status IN ('queued', 'running')")),
        Index("ix_job_listed", "tenant_id", "created_at", "id"),
        Index("ix_job_untold", "completed_at", postgresql_where=text(UNTOLD)),
    )

    id: Mapped[Id]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"))
    kind: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="queued")
    spec: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    plan_version: Mapped[int] = mapped_column(server_default=text("1"))
    base_model_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"), index=True)
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset.id"), index=True)
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    place: Mapped[float] = mapped_column(server_default=text("0"))
    work_units: Mapped[float] = mapped_column(server_default=text("0"))
    cost_seconds: Mapped[float] = mapped_column(server_default=text("0"))

    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline_at: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]

    claim_epoch: Mapped[int] = mapped_column(server_default=text("0"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    crash_count: Mapped[int] = mapped_column(server_default=text("0"))
    interrupt_count: Mapped[int] = mapped_column(server_default=text("0"))
    worker_id: Mapped[str | None] = mapped_column(Text)
    claimed_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    progress_step: Mapped[int] = mapped_column(server_default=text("0"))
    progress_steps: Mapped[int] = mapped_column(server_default=text("0"))
    progress_message: Mapped[str] = mapped_column(Text, server_default="")
    progress_at: Mapped[datetime | None]

    idempotency_key: Mapped[str | None] = mapped_column(Text)
    request_sha256: Mapped[Sha256 | None]
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    warnings: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    execution_seconds: Mapped[float | None]

    webhook: Mapped[str | None] = mapped_column(Text)
    webhook_events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    webhook_noted_at: Mapped[datetime | None]

    artifacts: Mapped[list["Artifact"]] = relationship(
        back_populates="job", order_by="Artifact.position", passive_deletes=True
    )


class Artifact(Base):
    """A file that a job made; it exists for others from the commit of its row.

    `arm` and `rollout_id` say on which side of which live comparison a picture was drawn. `perceptual_hash` is alike
    for pictures that look alike. `lost_at` is when it was found to be gone from the store, or not what it was.
    """

    __tablename__ = "artifact"
    __table_args__ = (
        UniqueConstraint("job_id", "type", "position"),
        CheckConstraint("size_bytes >= 0", name="size_not_negative"),
        one_of("arm", Arm),
        Index(
            "ix_artifact_adapters",
            "adapters",
            postgresql_using="gin",
            postgresql_ops={"adapters": "jsonb_path_ops"},
        ),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    claim_epoch: Mapped[int]
    position: Mapped[int]
    type: Mapped[str] = mapped_column(Text)
    object_key: Mapped[str] = mapped_column(Text, unique=True)
    content_type: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[Sha256]
    width: Mapped[int | None]
    height: Mapped[int | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    adapters: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    perceptual_hash: Mapped[str | None] = mapped_column(Text)
    rollout_id: Mapped[UUID | None] = mapped_column(ForeignKey("rollout.id", use_alter=True), index=True)
    arm: Mapped[str | None] = mapped_column(Text)
    lost_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    job: Mapped[Job] = relationship(back_populates="artifacts")


class WorkerPresence(Base):
    """A worker process that said it is alive, how many jobs it can take at once, and what it has in memory."""

    __tablename__ = "worker_presence"
    __table_args__ = (one_of("kind", WorkerKind),)

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    slots: Mapped[int]
    holds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]


class UpkeepPresence(Base):
    """An upkeep process, and when it last got through a round."""

    __tablename__ = "upkeep_presence"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]


class WorkRate(Base):
    """Seconds per unit of work that jobs of a kind took lately on a base model (a moving average)."""

    __tablename__ = "work_rate"
    __table_args__ = (one_of("kind", JobKind),)

    base_model_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    seconds_per_unit: Mapped[float]
