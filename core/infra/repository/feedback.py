"""Queries on what users said of images."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import and_, exists, select
from sqlalchemy.orm import Session, selectinload

from core.infra.repository.page import newest_first
from core.infra.table import Adapter, Artifact, Job, UserFeedback

CURRENT = and_(UserFeedback.superseded_at.is_(None), UserFeedback.withdrawn_at.is_(None))


def pictures(session: Session, *, image_ids: Collection[UUID]) -> dict[UUID, tuple[Artifact, Job]]:
    """Artifacts, whoever's, with the jobs that made them; they stay until the commit."""
    query = select(Artifact, Job).join(Job, Job.id == Artifact.job_id).where(Artifact.id.in_(image_ids))
    rows = session.execute(query.with_for_update(read=True, key_share=True, of=Artifact))
    return {artifact.id: (artifact, job) for artifact, job in rows}


def existing_adapters(session: Session, *, adapter_ids: Collection[UUID]) -> set[UUID]:
    """Those of the adapters that were not deleted; they stay until the commit."""
    if not adapter_ids:
        return set()
    query = select(Adapter.id).where(Adapter.id.in_(adapter_ids)).with_for_update(read=True, key_share=True)
    return set(session.scalars(query))


def current_on(session: Session, *, tenant_id: UUID, user_ref: str, subject: str) -> UserFeedback | None:
    """What a user says on a subject now, locked."""
    query = select(UserFeedback).where(
        UserFeedback.tenant_id == tenant_id, UserFeedback.user_ref == user_ref, UserFeedback.subject == subject, CURRENT
    )
    return session.scalars(query.with_for_update()).one_or_none()


def token_was_used(session: Session, *, image_ids: Collection[UUID], subject: str) -> bool:
    """Whether a token's holder spoke on the subject, even if it was taken back; images make the query fast."""
    query = select(
        exists().where(
            UserFeedback.image_id.in_(image_ids), UserFeedback.subject == subject, UserFeedback.by_token.is_(True)
        )
    )
    return bool(session.scalar(query))


def by_id(session: Session, *, tenant_id: UUID, feedback_id: UUID) -> UserFeedback | None:
    """A tenant's feedback that was not withdrawn."""
    query = select(UserFeedback).where(
        UserFeedback.id == feedback_id, UserFeedback.tenant_id == tenant_id, UserFeedback.withdrawn_at.is_(None)
    )
    return session.scalars(query.options(selectinload(UserFeedback.adapter))).one_or_none()


def page(
    session: Session, *, tenant_id: UUID, model_id: UUID | None, user_ref: str | None, limit: int, cursor: str | None
) -> tuple[Sequence[UserFeedback], str | None]:
    """A tenant's current feedback, newest first."""
    query = select(UserFeedback).where(UserFeedback.tenant_id == tenant_id, CURRENT)
    if model_id is not None:
        query = query.where(UserFeedback.stable_diffusion_id == model_id)
    if user_ref is not None:
        query = query.where(UserFeedback.user_ref == user_ref)
    query = query.options(selectinload(UserFeedback.adapter))
    return newest_first(session, query, UserFeedback, limit=limit, cursor=cursor)
