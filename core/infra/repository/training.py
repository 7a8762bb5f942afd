"""Queries on checkpoints and training metrics."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.domain.training import TrainingMetric
from core.infra.table import Checkpoint, TrainingMetricRow


def upsert_metrics(session: Session, *, job_id: UUID, metrics: Sequence[TrainingMetric]) -> None:
    statement = insert(TrainingMetricRow).values([{"job_id": job_id} | metric.model_dump() for metric in metrics])
    columns = ("loss", "learning_rate", "gradient_norm")
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "step"], set_={name: statement.excluded[name] for name in columns}
        )
    )


def metrics_of(session: Session, *, job_id: UUID, after_step: int, limit: int) -> Sequence[TrainingMetricRow]:
    """Metrics by step, ascending."""
    query = select(TrainingMetricRow).where(TrainingMetricRow.job_id == job_id, TrainingMetricRow.step > after_step)
    return session.scalars(query.order_by(TrainingMetricRow.step).limit(limit)).all()


def checkpoints_of(session: Session, *, job_id: UUID) -> Sequence[Checkpoint]:
    """Checkpoints, newest step first."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    return session.scalars(query.order_by(Checkpoint.step.desc(), Checkpoint.claim_epoch.desc())).all()


def remove_checkpoints(session: Session, *, job_id: UUID, keep: int) -> Sequence[str]:
    """Delete the rows of all but the last `keep` checkpoints to be written; their object prefixes.

    A run that could not go on from any begins anew, so that the last need not have the highest step.
    """
    newest = select(Checkpoint.step, Checkpoint.claim_epoch).where(Checkpoint.job_id == job_id)
    newest = newest.order_by(Checkpoint.claim_epoch.desc(), Checkpoint.step.desc()).limit(keep)
    statement = delete(Checkpoint).where(
        Checkpoint.job_id == job_id, tuple_(Checkpoint.step, Checkpoint.claim_epoch).not_in(newest)
    )
    return session.scalars(statement.returning(Checkpoint.object_prefix)).all()
