"""Tenant and ApiKey: whose rows, and who may ask for them."""

from datetime import datetime

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.infra.table.base import Base, CreatedAt, Id, Sha256, TenantId


class Tenant(Base):
    __tablename__ = "tenant"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[CreatedAt]


class ApiKey(Base):
    """Only the key's hash is kept; the key itself is shown once, when it is made."""

    __tablename__ = "api_key"

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    name: Mapped[str] = mapped_column(Text)
    key_sha256: Mapped[Sha256] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]

    tenant: Mapped[Tenant] = relationship()
