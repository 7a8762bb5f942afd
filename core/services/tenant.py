"""Tenants: whose jobs and files these are."""

from sqlalchemy.orm import Session

from core.domain.errors import Conflict, NotFound
from core.infra.repository import tenant as tenants
from core.infra.table import Tenant


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
