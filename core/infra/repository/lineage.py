"""Queries that walk between pictures, adapters, updates and feedback, in either direction."""

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Row, Select, cast, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from core.infra.table import (
    Adapter,
    Artifact,
    Job,
    ModelUpdate,
    TrainingData,
    TrainingExclusion,
    Transition,
    UserFeedback,
)

Ids = Select[UUID]
AnySelect: TypeAlias = Select[*tuple[Any, ...]]
AnyRow: TypeAlias = Row[*tuple[Any, ...]]


def job_of(session: Session, image: Artifact) -> Job:
    """The job that made a picture."""
    return session.get_one(Job, image.job_id)


def feedback_by_id(session: Session, *, tenant_id: UUID, feedback_id: UUID) -> UserFeedback | None:
    """A tenant's feedback, whether it counts, was superseded or was withdrawn."""
    query = select(UserFeedback).where(UserFeedback.id == feedback_id, UserFeedback.tenant_id == tenant_id)
    return session.scalars(query).one_or_none()


def feedback_alone(*, tenant_id: UUID, feedback_id: UUID) -> Ids:
    """One word of feedback."""
    return select(UserFeedback.id).where(UserFeedback.tenant_id == tenant_id, UserFeedback.id == feedback_id)


def feedback_on_image(*, tenant_id: UUID, image_id: UUID) -> Ids:
    """Feedback that speaks of a picture."""
    about = or_(UserFeedback.image_id == image_id, UserFeedback.rejected_image_id == image_id)
    return select(UserFeedback.id).where(UserFeedback.tenant_id == tenant_id, about)


def feedback_on_adapters(*, tenant_id: UUID, adapter_ids: Collection[UUID]) -> Ids:
    """Feedback that speaks of a picture which any of the adapters drew, alone or with others."""
    drawn = or_(*(Artifact.adapters.contains([{"id": str(each)}]) for each in adapter_ids))
    spoken_of = Artifact.id.in_([UserFeedback.image_id, UserFeedback.rejected_image_id])
    return select(UserFeedback.id).where(
        UserFeedback.tenant_id == tenant_id, select(Artifact.id).where(spoken_of, drawn).exists()
    )


def adapters_behind(session: Session, *, adapter_ids: Collection[UUID]) -> set[UUID]:
    """The adapters that drew what these adapters were trained on."""
    credit = func.jsonb_array_elements(Artifact.adapters)
    behind = (
        select(cast(credit.op("->>")("id"), PG_UUID(as_uuid=True)))
        .join(TrainingData, TrainingData.image_id == Artifact.id)
        .join(Adapter, Adapter.model_update_id == TrainingData.model_update_id)
        .where(Adapter.id.in_(adapter_ids))
        .distinct()
    )
    return set(session.scalars(behind))


def updates_using(session: Session, *, given: Ids) -> set[UUID]:
    """The updates that were trained or judged on this feedback."""
    query = select(TrainingData.model_update_id).where(TrainingData.feedback_id.in_(given)).distinct()
    return set(session.scalars(query))


def updates_leaving_out(session: Session, *, given: Ids) -> set[UUID]:
    """The updates that looked at this feedback and left it out."""
    query = select(TrainingExclusion.model_update_id).where(TrainingExclusion.feedback_id.in_(given)).distinct()
    return set(session.scalars(query))


def adapters_of(session: Session, *, tenant_id: UUID, update_ids: Collection[UUID]) -> Sequence[Adapter]:
    """What updates made."""
    query = select(Adapter).where(Adapter.tenant_id == tenant_id, Adapter.model_update_id.in_(update_ids))
    return session.scalars(query).all()


def adapters_by_id(session: Session, *, tenant_id: UUID, adapter_ids: Collection[UUID]) -> Sequence[Adapter]:
    """Those of a tenant's adapters that are still there."""
    return session.scalars(select(Adapter).where(Adapter.tenant_id == tenant_id, Adapter.id.in_(adapter_ids))).all()


def updates_by_id(session: Session, *, tenant_id: UUID, update_ids: Collection[UUID]) -> Sequence[ModelUpdate]:
    query = select(ModelUpdate).where(ModelUpdate.tenant_id == tenant_id, ModelUpdate.id.in_(update_ids))
    return session.scalars(query).all()


def count_images(session: Session, *, adapter_ids: Collection[UUID]) -> dict[UUID, int]:
    """How many pictures each adapter drew that are still kept."""
    drawn = func.images_drawn_by(Adapter.id, Adapter.tenant_id)
    counted = session.execute(select(Adapter.id, drawn).where(Adapter.id.in_(adapter_ids)))
    return {row[0]: row[1] for row in counted}


def count_rows(session: Session, *, update_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """How much feedback each update used, by split, and how much it left out, as `excluded`."""
    used = (
        select(TrainingData.model_update_id, TrainingData.split, func.count(TrainingData.feedback_id.distinct()))
        .where(TrainingData.model_update_id.in_(update_ids))
        .group_by(TrainingData.model_update_id, TrainingData.split)
    )
    left_out = (
        select(TrainingExclusion.model_update_id, func.count())
        .where(TrainingExclusion.model_update_id.in_(update_ids))
        .group_by(TrainingExclusion.model_update_id)
    )
    counts: dict[UUID, dict[str, int]] = {update_id: {} for update_id in update_ids}
    for update_id, split, count in session.execute(used):
        counts[update_id][split] = count
    for update_id, count in session.execute(left_out):
        counts[update_id]["excluded"] = count
    return counts


def moves_of(session: Session, *, adapter_ids: Collection[UUID]) -> Sequence[Transition]:
    """Every change of the adapters' stages, oldest first."""
    query = select(Transition).where(Transition.adapter_id.in_(adapter_ids))
    return session.scalars(query.order_by(Transition.created_at, Transition.id)).all()


def given_rows(session: Session, *, given: Ids, after: UUID | None, limit: int) -> Sequence[AnyRow]:
    """(feedback, its picture), oldest first, from behind the feedback `after`."""
    query = select(UserFeedback, Artifact).join(Artifact, Artifact.id == UserFeedback.image_id)
    order = (UserFeedback.created_at, UserFeedback.id)
    return _behind(session, query.where(UserFeedback.id.in_(given)), order, after=after, limit=limit)


def used_rows(
    session: Session, *, update_id: UUID, given: Ids | None, after: UUID | None, limit: int
) -> Sequence[AnyRow]:
    """(training row, feedback, picture) of an update in the order of its manifest; with `given`, of that feedback."""
    query = (
        select(TrainingData, UserFeedback, Artifact)
        .join(UserFeedback, UserFeedback.id == TrainingData.feedback_id)
        .join(Artifact, Artifact.id == TrainingData.image_id)
        .where(TrainingData.model_update_id == update_id)
    )
    if given is not None:
        query = query.where(TrainingData.feedback_id.in_(given))
    order = (TrainingData.position, TrainingData.id)
    return _behind(session, query, order, after=after, limit=limit)


def left_out_rows(session: Session, *, update_id: UUID, given: Ids, after: UUID | None, limit: int) -> Sequence[AnyRow]:
    """(exclusion, feedback, picture) of the given feedback that an update left out."""
    query = (
        select(TrainingExclusion, UserFeedback, Artifact)
        .join(UserFeedback, UserFeedback.id == TrainingExclusion.feedback_id)
        .join(Artifact, Artifact.id == UserFeedback.image_id)
        .where(TrainingExclusion.model_update_id == update_id, TrainingExclusion.feedback_id.in_(given))
    )
    if after is not None:
        query = query.where(TrainingExclusion.feedback_id > after)
    return session.execute(query.order_by(TrainingExclusion.feedback_id).limit(limit)).all()


def _behind(
    session: Session, query: AnySelect, order: tuple[Any, Any], *, after: UUID | None, limit: int
) -> Sequence[AnyRow]:
    """Rows in order, from behind the one whose id, the last of `order`, is `after`."""
    if after is not None:
        last = session.execute(select(*order).where(order[-1] == after)).one_or_none()
        if last is None:
            return []
        query = query.where(tuple_(*order) > tuple(last))
    return session.execute(query.order_by(*order).limit(limit)).all()
