"""Queries that forget feedback, and find what was made from it."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, String, cast, delete, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session

from core.domain.adapter import SERVING
from core.domain.model_update import IN_FLIGHT
from core.infra.repository import job as jobs
from core.infra.repository.among import is_among
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, Rollout, TrainingData, TrainingExclusion, UserFeedback

_PSEUDONYM = literal("withdrawn:").concat(cast(func.gen_random_uuid(), String))


def models_spoken_of(session: Session, *, tenant_id: UUID, user_ref: str, subject: str | None) -> list[UUID]:
    """Base models on whose images the user said something that was not withdrawn, in a fixed order."""
    query = select(UserFeedback.stable_diffusion_id).where(*_of_user(tenant_id, user_ref, subject)).distinct()
    return sorted(session.scalars(query))


def forget(
    session: Session, *, tenant_id: UUID, user_ref: str, subject: str | None, model_ids: Collection[UUID]
) -> dict[UUID, str]:
    """Turn what a user said, earlier words included, into rows without words or user; their ids and subjects."""
    rows = session.execute(
        update(UserFeedback)
        .where(*_of_user(tenant_id, user_ref, subject), UserFeedback.stable_diffusion_id.in_(model_ids))
        .values(withdrawn_at=func.now(), comment=None, tags=[], user_ref=_PSEUDONYM)
        .returning(UserFeedback.id, UserFeedback.subject),
        execution_options={"synchronize_session": False},
    )
    return {row.id: row.subject for row in rows}


def _of_user(tenant_id: UUID, user_ref: str, subject: str | None) -> Sequence[ColumnElement[bool]]:
    found = [
        UserFeedback.tenant_id == tenant_id,
        UserFeedback.user_ref == user_ref,
        UserFeedback.withdrawn_at.is_(None),
    ]
    return [*found, UserFeedback.subject == subject] if subject is not None else found


def blank_prompts(session: Session, *, feedback_ids: Collection[UUID]) -> None:
    """Empty the prompts of training rows; no manifest with them can be read again."""
    session.execute(
        update(TrainingData).where(is_among(TrainingData.feedback_id, feedback_ids)).values(prompt=""),
        execution_options={"synchronize_session": False},
    )


def updates_with(session: Session, *, feedback_ids: Collection[UUID]) -> Sequence[ModelUpdate]:
    """Updates that trained on any of these, newest first, locked."""
    holders = select(TrainingData.model_update_id).where(is_among(TrainingData.feedback_id, feedback_ids))
    query = select(ModelUpdate).where(ModelUpdate.id.in_(holders))
    query = query.order_by(ModelUpdate.created_at.desc(), ModelUpdate.id).with_for_update()
    return session.scalars(query, execution_options={"populate_existing": True}).all()


def adapters_of(session: Session, *, update_ids: Collection[UUID]) -> dict[UUID, Adapter]:
    """Update → the adapter that it made."""
    query = select(Adapter).where(Adapter.model_update_id.in_(update_ids))
    return {adapter.model_update_id: adapter for adapter in session.scalars(query) if adapter.model_update_id}


def take_back(session: Session, row: ModelUpdate, *, clean_within: timedelta | None) -> None:
    """Mark an update as holding withdrawn feedback; `clean_within` is for one that has to be replaced."""
    row.taken_back_at = func.coalesce(ModelUpdate.taken_back_at, func.now())
    if clean_within is not None:
        row.clean_by = func.coalesce(ModelUpdate.clean_by, func.now() + clean_within)
    session.flush()
    session.refresh(row)


def erasable(session: Session, *, limit: int) -> Sequence[ModelUpdate]:
    """Locked updates that hold withdrawn feedback and will neither be replaced nor serve any more, files and all."""
    # What a watch compares with is retired, and serves its share until somebody has looked.
    is_compared = exists().where(
        Rollout.ended_at.is_(None), or_(Rollout.challenger_id == Adapter.id, Rollout.incumbent_id == Adapter.id)
    )
    query = (
        select(ModelUpdate)
        .outerjoin(Adapter, Adapter.model_update_id == ModelUpdate.id)
        .where(
            ModelUpdate.taken_back_at.is_not(None),
            ModelUpdate.erased_at.is_(None),
            ModelUpdate.clean_by.is_(None),
            ModelUpdate.status.not_in(IN_FLIGHT),
            or_(Adapter.id.is_(None), Adapter.stage.not_in(SERVING)),
            ~is_compared,
        )
    )
    return session.scalars(query.limit(limit).with_for_update(of=ModelUpdate, skip_locked=True)).all()


def blank_user(session: Session, *, tenant_id: UUID, user_ref: str) -> None:
    """Take a user's name out of the requests that were made for that user."""
    session.execute(
        update(Job)
        .where(Job.tenant_id == tenant_id, Job.spec["user_ref"].as_string() == user_ref)
        .values(spec=Job.spec.op("-")("user_ref")),
        execution_options={"synchronize_session": False},
    )


def remove_rows_of(session: Session, *, job_ids: Collection[UUID]) -> None:
    """Delete the rows that withdrawn feedback on jobs' images left, with their places in manifests."""
    images = select(Artifact.id).where(Artifact.job_id.in_(job_ids))
    of_job = or_(UserFeedback.image_id.in_(images), UserFeedback.rejected_image_id.in_(images))
    gone = list(session.scalars(select(UserFeedback.id).where(of_job, UserFeedback.withdrawn_at.is_not(None))))
    for place in (TrainingData, TrainingExclusion):
        session.execute(delete(place).where(place.feedback_id.in_(gone)))
    started = update(ModelUpdate).where(ModelUpdate.triggered_by_feedback_id.in_(gone))
    session.execute(started.values(triggered_by_feedback_id=None))
    session.execute(delete(UserFeedback).where(UserFeedback.id.in_(gone)))


def cancel_if_free(session: Session, *, tenant_id: UUID, job_id: UUID) -> None:
    """Ask a job to stop, unless its worker is writing its row just now: waiting for it could wait for each other."""
    query = select(Job.id).where(Job.id == job_id).with_for_update(skip_locked=True)
    if session.scalar(query) is not None:
        jobs.request_cancel(session, tenant_id=tenant_id, job_id=job_id)
