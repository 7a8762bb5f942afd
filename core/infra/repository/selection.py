"""Queries behind the selection of training data: every opinion in one query, a frozen manifest back in one."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from core.infra.repository.among import is_among
from core.infra.repository.feedback import CURRENT
from core.infra.table import Artifact, Job, TrainingData, TrainingExclusion, UserFeedback

_ROWS_AT_ONCE = 2000

Chosen = aliased(Artifact, name="chosen")
Rejected = aliased(Artifact, name="rejected")
RejectedJob = aliased(Job, name="rejected_job")


def opinions(
    session: Session, *, tenant_id: UUID, model_id: UUID, among: Collection[UUID] | None
) -> Iterator[Row[Any]]:
    """Feedback with the facts of its one or two pictures, streamed.

    What counts now, or of `among` everything that was not withdrawn, even where its user has said something else since.
    """
    said = UserFeedback
    query = (
        select(
            *(said.id, said.user_ref, said.kind, said.liked, said.rating, said.tags, said.created_at),
            Job.plan["prompt"].as_string().label("prompt"),
            *_picture(Chosen, Job, "chosen"),
            *_picture(Rejected, RejectedJob, "rejected"),
        )
        .join(Chosen, Chosen.id == said.image_id)
        .join(Job, Job.id == Chosen.job_id)
        .outerjoin(Rejected, Rejected.id == said.rejected_image_id)
        .outerjoin(RejectedJob, RejectedJob.id == Rejected.job_id)
        .where(said.tenant_id == tenant_id, said.stable_diffusion_id == model_id)
    )
    if among is None:
        query = query.where(CURRENT)
    else:
        query = query.where(is_among(said.id, among), said.withdrawn_at.is_(None))
    yield from session.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})


def _picture(artifact: Any, job: Any, name: str) -> Sequence[Any]:
    columns = ("id", "object_key", "sha256", "perceptual_hash", "type", "lost_at")
    found = [getattr(artifact, column).label(f"{name}_{column}") for column in columns]
    return [*found, job.base_model_id.label(f"{name}_model_id")]


def mark_lost(session: Session, *, image_ids: Collection[UUID]) -> None:
    session.execute(
        update(Artifact).where(Artifact.id.in_(image_ids), Artifact.lost_at.is_(None)).values(lost_at=func.now())
    )


def add_training_data(session: Session, *, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(TrainingData), rows)


def add_exclusions(session: Session, *, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(TrainingExclusion), rows)


def training_data(session: Session, *, update_id: UUID) -> Sequence[tuple[TrainingData, str]]:
    """An update's frozen rows in order, the chosen picture of a pair first, each with where its picture is stored."""
    query = (
        select(TrainingData, Artifact.object_key)
        .join(Artifact, Artifact.id == TrainingData.image_id)
        .where(TrainingData.model_update_id == update_id)
        .order_by(TrainingData.position, TrainingData.role)  # chosen comes before rejected
    )
    return [(row, key) for row, key in session.execute(query)]
