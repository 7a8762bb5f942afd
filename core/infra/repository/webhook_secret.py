"""Queries on the secrets that sign webhooks."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.infra.table import WebhookSecret


def keep(session: Session, *, tenant_id: UUID, secret: str) -> WebhookSecret:
    """The tenant's row, made with this secret where there is none; the same for all who ask at once."""
    statement = insert(WebhookSecret).values(tenant_id=tenant_id, secret=secret)
    session.execute(statement.on_conflict_do_nothing(index_elements=["tenant_id"]))
    return session.scalars(select(WebhookSecret).where(WebhookSecret.tenant_id == tenant_id)).one()


def replace(session: Session, row: WebhookSecret, *, secret: str, overlap: timedelta) -> None:
    """Sign with another secret from now on; the one before goes on for a while."""
    session.refresh(row, with_for_update=True)
    row.previous, row.previous_until = row.secret, func.now() + overlap
    row.secret, row.created_at = secret, func.now()
    session.flush()
    session.refresh(row)


def current(session: Session, row: WebhookSecret) -> list[str]:
    """The secrets that sign now, the newest first."""
    is_young = session.scalar(
        select(WebhookSecret.previous_until > func.now()).where(WebhookSecret.tenant_id == row.tenant_id)
    )
    return [row.secret, row.previous] if is_young and row.previous else [row.secret]
