"""Dataset and its pictures."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.domain.dataset import DatasetStatus
from core.infra.table.base import Base, CreatedAt, Id, Sha256, TenantId, one_of


class Dataset(Base):
    __tablename__ = "dataset"
    __table_args__ = (
        one_of("status", DatasetStatus),
        CheckConstraint("status <> 'ready' OR digest IS NOT NULL", name="ready_has_digest"),
    )

    id: Mapped[Id]
    tenant_id: Mapped[TenantId]
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    digest: Mapped[Sha256 | None]
    created_at: Mapped[CreatedAt]

    images: Mapped[list["DatasetImage"]] = relationship(
        back_populates="dataset", order_by="DatasetImage.position", passive_deletes=True
    )


class DatasetImage(Base):
    """A picture with its caption. Until the dataset is ready, `sha256` and the sizes of an upload are unknown."""

    __tablename__ = "dataset_image"
    __table_args__ = (UniqueConstraint("dataset_id", "position"),)

    id: Mapped[Id]
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    position: Mapped[int]
    file_name: Mapped[str] = mapped_column(Text)
    caption: Mapped[str] = mapped_column(Text)
    object_key: Mapped[str] = mapped_column(Text)
    sha256: Mapped[Sha256 | None]
    width: Mapped[int | None]
    height: Mapped[int | None]

    dataset: Mapped[Dataset] = relationship(back_populates="images")
