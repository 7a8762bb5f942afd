"""Queries on model updates and on the feedback that they counted."""

from collections.abc import Collection, Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, defer

from core.domain.feedback import FeedbackKind
from core.domain.job import TERMINAL
from core.domain.model_update import AT_WORK, IN_FLIGHT, ModelUpdateStatus
from core.infra.repository.page import newest_first
from core.infra.repository.policy import NEW, of_pair
from core.infra.table import (
    Adapter,
    Artifact,
    Job,
    ModelUpdate,
    StableDiffusion,
    TrainingData,
    TrainingExclusion,
    Transition,
    UserFeedback,
)

Row = TypeVar("Row", ModelUpdate, Adapter)


def by_id(session: Session, *, tenant_id: UUID, update_id: UUID, for_update: bool = False) -> ModelUpdate | None:
    query = select(ModelUpdate).where(ModelUpdate.id == update_id, ModelUpdate.tenant_id == tenant_id)
    return _fresh(session, query.with_for_update() if for_update else query)


def by_job(session: Session, *, job_id: UUID, for_update: bool = False) -> ModelUpdate | None:
    query = select(ModelUpdate).where(ModelUpdate.job_id == job_id)
    return _fresh(session, query.with_for_update() if for_update else query)


def _fresh(session: Session, query: Select[Row]) -> Row | None:
    """As it is now, whatever the session has seen before."""
    return session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def in_flight(session: Session, *, tenant_id: UUID, model_id: UUID) -> ModelUpdate | None:
    query = select(ModelUpdate).where(
        ModelUpdate.tenant_id == tenant_id,
        ModelUpdate.stable_diffusion_id == model_id,
        ModelUpdate.status.in_(IN_FLIGHT),
    )
    return _fresh(session, query)


def page(
    session: Session, *, tenant_id: UUID, model_id: UUID | None, limit: int, cursor: str | None
) -> tuple[Sequence[ModelUpdate], str | None]:
    """A tenant's updates, newest first."""
    query = select(ModelUpdate).where(ModelUpdate.tenant_id == tenant_id)
    if model_id is not None:
        query = query.where(ModelUpdate.stable_diffusion_id == model_id)
    return newest_first(session, query, ModelUpdate, limit=limit, cursor=cursor)


def adapter_of(session: Session, *, update_id: UUID, for_update: bool = False) -> Adapter | None:
    """What the update made; None before, and after its deletion."""
    query = select(Adapter).where(Adapter.model_update_id == update_id)
    return _fresh(session, query.with_for_update() if for_update else query)


def adapters_of(session: Session, *, update_ids: Collection[UUID]) -> dict[UUID, Adapter]:
    """Update → what it made."""
    query = select(Adapter).where(Adapter.model_update_id.in_(update_ids))
    return {adapter.model_update_id: adapter for adapter in session.scalars(query) if adapter.model_update_id}


def jobs_of(session: Session, *, job_ids: Collection[UUID]) -> dict[UUID, Job]:
    return {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids)))}


def models_of(session: Session, *, model_ids: Collection[UUID]) -> dict[UUID, StableDiffusion]:
    query = select(StableDiffusion).where(StableDiffusion.id.in_(model_ids)).options(defer(StableDiffusion.modules))
    return {model.id: model for model in session.scalars(query)}


def artifact_of(session: Session, *, job_id: UUID, kind: str) -> Artifact | None:
    """The first file of a type that an update's job stored."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.type == kind)
    return session.scalars(query.order_by(Artifact.position).limit(1)).one_or_none()


def transitions_of(session: Session, *, update_id: UUID) -> Sequence[Transition]:
    """Of the update and of its adapter, oldest first."""
    query = select(Transition).where(Transition.model_update_id == update_id)
    return session.scalars(query.order_by(Transition.created_at, Transition.id)).all()


def count_new_feedback(session: Session, *, update_id: UUID, tenant_id: UUID, model_id: UUID) -> UUID | None:
    """Mark all current feedback that no update was started by as counted in this one; gives the newest label's id."""
    rows = session.execute(
        update(UserFeedback)
        .where(of_pair(tenant_id, model_id), NEW)
        .values(counted_in_update_id=update_id)
        .returning(UserFeedback.created_at, UserFeedback.id, UserFeedback.kind),
        execution_options={"synchronize_session": False},
    )
    labels = [(created_at, found) for created_at, found, kind in rows if kind != FeedbackKind.COMMENT]
    return max(labels)[1] if labels else None


def looked_at(session: Session, *, update_id: UUID) -> set[UUID]:
    """Ids of all feedback that an update trained on, held out or left out."""
    trained = select(TrainingData.feedback_id).where(TrainingData.model_update_id == update_id)
    excluded = select(TrainingExclusion.feedback_id).where(TrainingExclusion.model_update_id == update_id)
    return set(session.scalars(trained.union(excluded)))


def at_work_without_a_job(session: Session) -> Sequence[tuple[ModelUpdate, Job]]:
    """Locked updates that wait for a job that has ended."""
    query = select(ModelUpdate, Job).join(Job, Job.id == ModelUpdate.job_id)
    query = query.where(ModelUpdate.status.in_(AT_WORK), Job.status.in_(TERMINAL))
    rows = session.execute(query.with_for_update(of=ModelUpdate, skip_locked=True))
    return [(found, job) for found, job in rows]


def unapproved_in_time(session: Session) -> Sequence[ModelUpdate]:
    """Locked updates that nobody approved until their time was over."""
    query = select(ModelUpdate).where(
        ModelUpdate.status == ModelUpdateStatus.AWAITING_APPROVAL, ModelUpdate.decide_by <= func.now()
    )
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def to_be_cleaned(session: Session) -> Sequence[UUID]:
    """Updates with withdrawn feedback that something without it has to replace."""
    query = select(ModelUpdate.id).where(ModelUpdate.taken_back_at.is_not(None), ModelUpdate.clean_by.is_not(None))
    return session.scalars(query.order_by(ModelUpdate.taken_back_at)).all()


def is_late(session: Session, row: ModelUpdate) -> bool:
    """Whether the time to replace an update is over."""
    query = select(ModelUpdate.clean_by <= func.now()).where(ModelUpdate.id == row.id)
    return bool(session.scalar(query))


def replacement_of(session: Session, *, update_id: UUID) -> ModelUpdate | None:
    """The newest update that was started to replace this one."""
    query = select(ModelUpdate).where(ModelUpdate.replaces_update_id == update_id)
    return session.scalars(query.order_by(ModelUpdate.created_at.desc()).limit(1)).one_or_none()


def count_rows(session: Session, *, update_id: UUID) -> int:
    query = select(func.count()).select_from(TrainingData).where(TrainingData.model_update_id == update_id)
    return int(session.scalar(query) or 0)


def opinions_by_user(session: Session, *, update_id: UUID) -> Sequence[int]:
    """How many rows of the manifest each user gave, without their names, in ascending order."""
    count = func.count(TrainingData.position.distinct())
    query = (
        select(count)
        .join(UserFeedback, UserFeedback.id == TrainingData.feedback_id)
        .where(TrainingData.model_update_id == update_id)
        .group_by(UserFeedback.user_ref)
    )
    return session.scalars(query.order_by(count)).all()


def rows_from(
    session: Session, *, update_id: UUID, offset: int, limit: int
) -> Sequence[tuple[TrainingData, UserFeedback]]:
    """Training rows in their order, each with its feedback; they are frozen, so an offset stays true."""
    query = (
        select(TrainingData, UserFeedback)
        .join(UserFeedback, UserFeedback.id == TrainingData.feedback_id)
        .where(TrainingData.model_update_id == update_id)
        .order_by(TrainingData.position, TrainingData.role)
    )
    return [(row, feedback) for row, feedback in session.execute(query.offset(offset).limit(limit))]


def exclusions_from(
    session: Session, *, update_id: UUID, offset: int, limit: int
) -> Sequence[tuple[TrainingExclusion, UserFeedback]]:
    """What was left out, by the id of its feedback, each with its feedback."""
    query = (
        select(TrainingExclusion, UserFeedback)
        .join(UserFeedback, UserFeedback.id == TrainingExclusion.feedback_id)
        .where(TrainingExclusion.model_update_id == update_id)
        .order_by(TrainingExclusion.feedback_id)
    )
    return [(row, feedback) for row, feedback in session.execute(query.offset(offset).limit(limit))]
