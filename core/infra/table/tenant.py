"""Tenant and what belongs to it: its API keys, its limits, its turns, what it has used."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.api_key import Scope
from core.domain.job import WorkerKind
from core.infra.table.base import Base, CreatedAt, Id, Sha256, TenantId, one_of


class Tenant(Base):
    __tablename__ = "tenant"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[CreatedAt]


class TenantLimit(Base):
    """What the operator gave one tenant; None is what the settings say, infinity no limit."""

    __tablename__ = "tenant_limit"
    __table_args__ = (CheckConstraint("share > 0", name="share_positive"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    requests_per_minute: Mapped[float | None]
    queued_jobs: Mapped[float | None]
    queued_seconds: Mapped[float | None]
    gpu_seconds_per_day: Mapped[float | None]
    share: Mapped[float | None]


class LineTurn(Base):
    """What a line knows of a tenant beyond the jobs that stand in it.

    `next_place` is where its next job would stand, for submits that cannot see each other's jobs yet: `taken_by` is
    the transaction that wrote it, and one that sees its job needs it no more. `served_place` is where the tenant's runs
    have brought it, and `share` what its last submit was counted by.
    """

    __tablename__ = "line_turn"
    __table_args__ = (one_of("worker", WorkerKind), CheckConstraint("share > 0", name="share_positive"))

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    worker: Mapped[str] = mapped_column(Text, primary_key=True)
    next_place: Mapped[float]
    taken_by: Mapped[int] = mapped_column(BigInteger)
    served_place: Mapped[float] = mapped_column(server_default=text("0"))
    share: Mapped[float] = mapped_column(server_default=text("1"))


class GpuUsage(Base):
    """Seconds for which a tenant's jobs ran that ended in an hour."""

    __tablename__ = "gpu_usage"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    seconds: Mapped[float]


class ApiKey(Base):
    """Only a digest of the key is kept; the key itself is shown once. `shown_part` is its beginning."""

    __tablename__ = "api_key"

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    name: Mapped[str] = mapped_column(Text)
    key_sha256: Mapped[Sha256] = mapped_column(unique=True)
    shown_part: Mapped[str] = mapped_column(Text, server_default="")
    scopes: Mapped[list[Any]] = mapped_column(server_default=text(f"'{json.dumps(sorted(Scope))}'::jsonb"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship()
