"""StableDiffusion: a base model."""

from typing import Any

from sqlalchemy import CheckConstraint, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.base_model import ModelFamily, ModelStatus
from core.infra.table.base import Base, CreatedAt, Id, TenantId, one_of


class StableDiffusion(Base):
    """A base model. `shared` offers it to every tenant; otherwise only its owner sees it."""

    __tablename__ = "stable_diffusion"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        one_of("status", ModelStatus),
        one_of("family", ModelFamily),
        CheckConstraint("status <> 'ready' OR family IS NOT NULL", name="ready_has_family"),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, server_default="")
    source: Mapped[str] = mapped_column(Text)
    revision: Mapped[str | None] = mapped_column(Text)
    shared: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[str] = mapped_column(Text, server_default=ModelStatus.CHECKING.value)
    status_reason: Mapped[str | None] = mapped_column(Text)
    family: Mapped[str | None] = mapped_column(Text)
    options: Mapped[dict[str, Any]]
    defaults: Mapped[dict[str, Any]]
    modules: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[CreatedAt]
