"""Queries on base models."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, exists, or_, select
from sqlalchemy.orm import Session, defer

from core.domain.base_model import ModelStatus
from core.domain.job import TERMINAL, JobKind
from core.infra.repository.job import ACTIVE
from core.infra.repository.page import newest_first
from core.infra.table import Job, StableDiffusion

_LEAN = defer(StableDiffusion.modules)
"""The shapes of a large model's modules are a hundred kilobytes, and seldom wanted."""


def _visible(tenant_id: UUID) -> ColumnElement[bool]:
    return or_(StableDiffusion.tenant_id == tenant_id, StableDiffusion.shared)


_BY_NAME = (  # built once: every submit runs it
    select(StableDiffusion)
    .where(
        StableDiffusion.name == bindparam("name"),
        or_(StableDiffusion.tenant_id == bindparam("tenant_id"), StableDiffusion.shared),
    )
    .order_by((StableDiffusion.tenant_id == bindparam("tenant_id")).desc(), StableDiffusion.created_at)
    .limit(1)
    .options(_LEAN)
)


def by_name(session: Session, *, tenant_id: UUID, name: str) -> StableDiffusion | None:
    """The model a tenant means by a name: its own before a shared one, the older before the newer."""
    return session.scalars(_BY_NAME, {"tenant_id": tenant_id, "name": name}).one_or_none()


def own_by_name(session: Session, *, tenant_id: UUID, name: str) -> StableDiffusion | None:
    query = select(StableDiffusion).where(StableDiffusion.tenant_id == tenant_id, StableDiffusion.name == name)
    return session.scalars(query.options(_LEAN)).one_or_none()


def by_id(session: Session, *, tenant_id: UUID, model_id: UUID) -> StableDiffusion | None:
    query = select(StableDiffusion).where(StableDiffusion.id == model_id, _visible(tenant_id))
    return session.scalars(query.options(_LEAN)).one_or_none()


def page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[Sequence[StableDiffusion], str | None]:
    """The models a tenant may use, newest first."""
    query = select(StableDiffusion).where(_visible(tenant_id)).options(_LEAN)
    return newest_first(session, query, StableDiffusion, limit=limit, cursor=cursor)


def modules_of(session: Session, *, model_id: UUID) -> dict[str, Any]:
    """Module → shape of its weight."""
    return dict(session.scalars(select(StableDiffusion.modules).where(StableDiffusion.id == model_id)).one())


def is_being_checked(session: Session, *, model_id: UUID) -> bool:
    """Whether a registration job of the model has not ended yet."""
    job = exists().where(Job.base_model_id == model_id, Job.kind == JobKind.REGISTRATION, ACTIVE)
    return bool(session.scalar(select(job)))


def left_unchecked(session: Session) -> Sequence[tuple[StableDiffusion, Job]]:
    """Models that wait for a check although their last registration job has ended, with that job."""
    last = select(Job.id).where(Job.base_model_id == StableDiffusion.id, Job.kind == JobKind.REGISTRATION)
    last = last.order_by(Job.created_at.desc()).limit(1)
    query = select(StableDiffusion, Job).join(Job, Job.id == last.correlate(StableDiffusion).scalar_subquery())
    query = query.where(StableDiffusion.status == ModelStatus.CHECKING, Job.status.in_(TERMINAL)).options(_LEAN)
    return [(model, job) for model, job in session.execute(query)]
