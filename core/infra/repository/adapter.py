"""Queries on adapters."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Integer, exists, func, or_, select, union_all
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterRef, AdapterStage
from core.domain.job import KINDS_OF_WORKER, WorkerKind
from core.infra.repository.job import ACTIVE
from core.infra.repository.page import newest_first
from core.infra.table import Adapter, Job, UserFeedback

_NOT_SERVED = (AdapterStage.CANDIDATE, AdapterStage.REJECTED, AdapterStage.RETIRED)


def by_ref(session: Session, *, tenant_id: UUID, ref: AdapterRef) -> Adapter | None:
    """The tenant's adapter that a reference means, the newest where several fit; it stays until the commit."""
    query = select(Adapter.id).where(Adapter.tenant_id == tenant_id)
    if ref.sha256 is not None:
        query = query.where(Adapter.sha256 == ref.sha256)
    else:
        query = query.where(Adapter.name == ref.name)
        if ref.version is not None:
            query = query.where(Adapter.version == ref.version)
        elif ref.alias == "latest":
            query = query.where(Adapter.stage.not_in(_NOT_SERVED))
        else:
            query = query.where(Adapter.stage == ref.alias)
    newest = query.order_by(Adapter.version.desc(), Adapter.created_at.desc()).limit(1)
    # Locked by id alone: a lock checks its conditions again, and the stage may have changed meanwhile.
    chosen = select(Adapter).where(Adapter.id == newest.scalar_subquery())
    return session.scalars(chosen.with_for_update(read=True, key_share=True)).one_or_none()


def by_id(session: Session, *, tenant_id: UUID, adapter_id: UUID, for_update: bool = False) -> Adapter | None:
    query = select(Adapter).where(Adapter.id == adapter_id, Adapter.tenant_id == tenant_id)
    return session.scalars(query.with_for_update() if for_update else query).one_or_none()


def any_by_id(session: Session, *, adapter_id: UUID) -> Adapter | None:
    """For a caller that has proved its right in another way."""
    return session.get(Adapter, adapter_id)


def page(
    session: Session, *, tenant_id: UUID, name: str | None, limit: int, cursor: str | None
) -> tuple[Sequence[Adapter], str | None]:
    """A tenant's adapters, newest first."""
    query = select(Adapter).where(Adapter.tenant_id == tenant_id)
    if name is not None:
        query = query.where(Adapter.name == name)
    return newest_first(session, query, Adapter, limit=limit, cursor=cursor)


def highest_version(session: Session, *, tenant_id: UUID, name: str) -> int:
    """The highest version of a name that exists or that a training will make; 0 where there is none.

    One statement, so that a training that ends meanwhile is seen on one side or the other.
    """
    made = select(func.max(Adapter.version).label("version")).where(
        Adapter.tenant_id == tenant_id, Adapter.name == name
    )
    coming = select(func.max(Job.plan["adapter_version"].as_string().cast(Integer)).label("version")).where(
        Job.tenant_id == tenant_id,
        Job.kind.in_(KINDS_OF_WORKER[WorkerKind.TRAINING]),
        ACTIVE,
        Job.spec["name"].as_string() == name,
    )
    versions = union_all(made, coming).subquery()
    return int(session.scalar(select(func.coalesce(func.max(versions.c.version), 0))) or 0)


def is_in_use(session: Session, adapter: Adapter) -> bool:
    """Whether a generation that has not ended names it."""
    named = [{"id": str(adapter.id)}]
    has_part = or_(Job.plan["adapters"].contains(named), Job.plan["assignment"]["challenger"].contains(named))
    job = exists().where(Job.tenant_id == adapter.tenant_id, ACTIVE, has_part)
    return bool(session.scalar(select(job)))


def is_judged(session: Session, adapter: Adapter) -> bool:
    """Whether feedback on its images exists, for them or against them."""
    of_it = or_(UserFeedback.adapter_id == adapter.id, UserFeedback.rejected_adapter_id == adapter.id)
    return bool(session.scalar(select(exists().where(of_it))))
