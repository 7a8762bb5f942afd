"""Queries on tenants."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.infra.table import Tenant


def by_name(session: Session, *, name: str) -> Tenant | None:
    return session.scalars(select(Tenant).where(Tenant.name == name)).one_or_none()


def all_tenants(session: Session) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).order_by(Tenant.name)).all()
