"""Whose request is it? Tenants and their API keys."""

import hashlib
import secrets
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.errors import Conflict, NotFound, Unauthorized
from core.infra.repository import tenant as tenants
from core.infra.table import ApiKey, Tenant

KEY_PREFIX = "lk_"


def create_tenant(session: Session, *, name: str) -> Tenant:
    """Add a tenant.

    Raises:
        Conflict: the name is taken.
    """
    if tenants.by_name(session, name=name) is not None:
        raise Conflict(f"There is a tenant {name} already.")
    tenant = Tenant(name=name)
    session.add(tenant)
    session.flush()
    return tenant


def find_tenant(session: Session, *, name: str) -> Tenant:
    """A tenant by its name.

    Raises:
        NotFound: no such tenant.
    """
    tenant = tenants.by_name(session, name=name)
    if tenant is None:
        raise NotFound(f"There is no tenant {name}.")
    return tenant


def create_api_key(session: Session, *, tenant_id: UUID, name: str) -> str:
    """Make a key and keep its hash; the key itself is returned here and never again."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    session.add(ApiKey(tenant_id=tenant_id, name=name, key_sha256=_digest(key)))
    session.flush()
    return key


def revoke_api_key(session: Session, *, key_id: UUID) -> None:
    """End a key's life; a second time changes nothing.

    Raises:
        NotFound: no such key.
    """
    if not tenants.revoke(session, key_id=key_id):
        raise NotFound(f"There is no API key {key_id}.")


def authenticate(session: Session, key: str) -> Tenant:
    """The tenant that a key belongs to.

    Raises:
        Unauthorized: no such key, or a revoked one.
    """
    tenant = tenants.by_key(session, key_sha256=_digest(key))
    if tenant is None:
        raise Unauthorized
    return tenant


def _digest(key: str) -> str:
    # A key is 256 random bits, so a plain hash is as good as a slow one.
    return hashlib.sha256(key.encode()).hexdigest()
