"""Limits of a tenant: read them, set them."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.limit import LIMIT_NAMES, Limits
from core.infra.repository import limit as rows
from core.infra.table import TenantLimit


def limits_of(session: Session, *, tenant_id: UUID, default: Limits) -> Limits:
    """What holds for a tenant: its own limits, and `default` for those that it has not."""
    row = rows.of_tenant(session, tenant_id=tenant_id)
    own = {} if row is None else {name: getattr(row, name) for name in LIMIT_NAMES}
    return replace(default, **{name: value for name, value in own.items() if value is not None})


def set_limits(session: Session, *, tenant_id: UUID, changes: Mapping[str, float | None]) -> None:
    """Give a tenant limits of its own, by their names; None takes one back to the settings'."""
    row = rows.of_tenant(session, tenant_id=tenant_id) or TenantLimit(tenant_id=tenant_id)
    for name, value in changes.items():
        assert name in LIMIT_NAMES
        setattr(row, name, value)
    session.add(row)
