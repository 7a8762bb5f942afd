"""What a training run leaves on its way: checkpoints and the loss of each step."""

from uuid import UUID

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.infra.table.base import Base, CreatedAt, Sha256


class Checkpoint(Base):
    """A complete checkpoint in the object store; the row is written after its last file."""

    __tablename__ = "checkpoint"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    claim_epoch: Mapped[int] = mapped_column(primary_key=True)
    object_prefix: Mapped[str] = mapped_column(Text)
    manifest_sha256: Mapped[Sha256]
    created_at: Mapped[CreatedAt]


class TrainingMetricRow(Base):
    """One optimizer step; a step that is computed again after a resume replaces its row."""

    __tablename__ = "training_metric"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float]
    learning_rate: Mapped[float]
    gradient_norm: Mapped[float]
