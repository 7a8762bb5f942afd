"""Queries on tenants."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.infra.table import Tenant


def by_name(session: Session, *, name: str) -> Tenant | None:
    return session.scalars(select(Tenant).where(Tenant.name == name)).one_or_none()


def first_id(session: Session) -> UUID | None:
    """The tenant that was there first: a database is known by it, also when it was restored elsewhere."""
    return session.scalar(select(Tenant.id).order_by(Tenant.created_at, Tenant.id).limit(1))


def all_tenants(session: Session) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).order_by(Tenant.name)).all()
