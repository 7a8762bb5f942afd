"""API keys: make one, let somebody in by it, replace it, end its life."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.api_key import ALL_SCOPES, Scope, digest, is_formed, make_key, shown_part
from core.domain.errors import Conflict, NotFound, Unauthorized
from core.domain.limit import UNLIMITED, Limits
from core.infra.repository import api_key as api_keys
from core.infra.table import ApiKey
from core.services.limit import limits_of


@dataclass(frozen=True)
class Caller:
    """Who came in by a key, and what it lets him do."""

    tenant_id: UUID
    key_id: UUID
    scopes: frozenset[Scope]
    requests_per_minute: float


def create(
    session: Session,
    *,
    tenant_id: UUID,
    name: str,
    scopes: Collection[Scope] = ALL_SCOPES,
    lifetime: timedelta | None = None,
) -> str:
    """Make a key and keep its digest; the key itself is returned here and never again."""
    key = make_key()
    session.add(
        ApiKey(
            tenant_id=tenant_id,
            name=name,
            key_sha256=digest(key),
            shown_part=shown_part(key),
            scopes=sorted(scopes),
            expires_at=None if lifetime is None else api_keys.now(session) + lifetime,
        )
    )
    session.flush()
    return key


def authenticate(session: Session, key: str, *, limits: Limits = UNLIMITED) -> Caller:
    """Whom a key belongs to; notes that it was used. `limits` are of tenants that have none of their own.

    Raises:
        Unauthorized: no such key, or a revoked or expired one.
    """
    row = api_keys.valid(session, key_sha256=digest(key)) if is_formed(key) else None
    if row is None:
        raise Unauthorized
    api_keys.note_use(session, key_id=row.id)
    scopes = frozenset(Scope(word) for word in row.scopes)
    own = limits_of(session, tenant_id=row.tenant_id, default=limits)
    return Caller(row.tenant_id, row.id, scopes, own.requests_per_minute)


def rotate(session: Session, *, key_id: UUID, overlap: timedelta, lifetime: timedelta | None = None) -> str:
    """Make a key of the same name, scopes and tenant; the old one expires after `overlap`.

    Unless `lifetime` is given, the new one has as long a life before it as the old one had, or no end either.

    Raises:
        NotFound: no such key.
        Conflict: it was revoked.
    """
    old = _find(session, key_id)
    if old.revoked_at is not None:
        raise Conflict(f"The API key {key_id} is revoked; make a new one.")
    if lifetime is None and old.expires_at is not None:
        lifetime = old.expires_at - old.created_at
    end = api_keys.now(session) + overlap
    old.expires_at = min(old.expires_at or end, end)
    scopes = [Scope(word) for word in old.scopes]
    return create(session, tenant_id=old.tenant_id, name=old.name, scopes=scopes, lifetime=lifetime)


def revoke(session: Session, *, key_id: UUID) -> None:
    """End a key's life; a second time changes nothing.

    Raises:
        NotFound: no such key.
    """
    key = _find(session, key_id)
    key.revoked_at = key.revoked_at or api_keys.now(session)


def _find(session: Session, key_id: UUID) -> ApiKey:
    key = api_keys.by_id(session, key_id=key_id)
    if key is None:
        raise NotFound(f"There is no API key {key_id}.")
    return key
