"""The secret that a tenant's webhooks are signed with: made when it is first needed, shown, replaced."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.webhook import SECRET_OVERLAP, make_secret
from core.infra.repository import webhook_secret as rows
from core.infra.table import WebhookSecret


def get(session: Session, *, tenant_id: UUID) -> WebhookSecret:
    """A tenant's secret."""
    return rows.keep(session, tenant_id=tenant_id, secret=make_secret())


def rotate(session: Session, *, tenant_id: UUID) -> WebhookSecret:
    """Sign with a new secret; the one that it replaces signs too for a day, the one before that no more."""
    row = get(session, tenant_id=tenant_id)
    rows.replace(session, row, secret=make_secret(), overlap=SECRET_OVERLAP)
    return row


def signing(session: Session, *, tenant_id: UUID) -> Sequence[str]:
    """The secrets that sign now, the newest first."""
    return rows.current(session, get(session, tenant_id=tenant_id))
