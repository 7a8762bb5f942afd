"""Adapter: a LoRA, trained here or imported."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.adapter import AdapterStage
from core.infra.table.base import Base, CreatedAt, Id, Sha256, TenantId, one_of
from core.infra.table.stable_diffusion import StableDiffusion


class Adapter(Base):
    """One version of a named LoRA. A version never changes; a new training of the name is a new version.

    Its stage does: a tenant has one champion and one canary of a base model at most.
    """

    __tablename__ = "adapter"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name", "version"),
        one_of("stage", AdapterStage),
        CheckConstraint("version >= 1", name="version_positive"),
        Index(
            "uq_adapter_serving",
            "tenant_id",
            "base_model_id",
            "stage",
            unique=True,
            postgresql_where=text("stage IN ('champion', 'canary')"),
        ),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    base_model_id: Mapped[UUID] = mapped_column(ForeignKey("stable_diffusion.id"), index=True)
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"), unique=True)
    model_update_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_update.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    description: Mapped[str] = mapped_column(Text, server_default="")
    stage: Mapped[str] = mapped_column(Text, server_default=AdapterStage.AVAILABLE.value)
    rank: Mapped[int]
    alpha: Mapped[float]
    object_key: Mapped[str] = mapped_column(Text)
    kohya_object_key: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[Sha256] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]

    base_model: Mapped[StableDiffusion] = relationship()

    @property
    def ref(self) -> str:
        """How a request, or a sentence, names exactly this version."""
        return f"{self.name}@{self.version}"
