"""Queries on tenants and their API keys."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.infra.table import ApiKey, Tenant


def by_name(session: Session, *, name: str) -> Tenant | None:
    return session.scalars(select(Tenant).where(Tenant.name == name)).one_or_none()


def by_key(session: Session, *, key_sha256: str) -> Tenant | None:
    """The tenant of a key that is not revoked."""
    query = select(Tenant).join(ApiKey, ApiKey.tenant_id == Tenant.id)
    return session.scalars(query.where(ApiKey.key_sha256 == key_sha256, ApiKey.revoked_at.is_(None))).one_or_none()


def all_tenants(session: Session) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).order_by(Tenant.name)).all()


def keys_of(session: Session, *, tenant_id: UUID) -> Sequence[ApiKey]:
    return session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at)).all()


def revoke(session: Session, *, key_id: UUID) -> bool:
    """Whether there is such a key."""
    key = session.get(ApiKey, key_id)
    if key is None:
        return False
    key.revoked_at = key.revoked_at or func.now()
    return True
