"""Queries on API keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from core.infra.table import ApiKey

_USE_KEPT_EVERY = timedelta(minutes=1)


def valid(session: Session, *, key_sha256: str) -> ApiKey | None:
    """The key with that digest, unless it is revoked or has expired."""
    query = select(ApiKey).where(ApiKey.key_sha256 == key_sha256, ApiKey.revoked_at.is_(None), _is_young())
    return session.scalars(query).one_or_none()


def _is_young() -> Any:
    return or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())


def note_use(session: Session, *, key_id: UUID) -> None:
    """Remember that a key was used now, to the minute."""
    is_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - _USE_KEPT_EVERY)
    session.execute(
        update(ApiKey).where(ApiKey.id == key_id, is_old).values(last_used_at=func.now()),
        execution_options={"synchronize_session": False},
    )


def of_tenant(session: Session, *, tenant_id: UUID) -> Sequence[ApiKey]:
    return session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at)).all()


def by_id(session: Session, *, key_id: UUID) -> ApiKey | None:
    return session.get(ApiKey, key_id, with_for_update=True)


def now(session: Session) -> datetime:
    """The database's own time, by which keys expire."""
    return session.scalars(select(func.now())).one()
