"""Queries on what webhooks are told. Every time is the database's own."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ARRAY, CursorResult, Integer, Interval, Text, Uuid, bindparam, case, func, select, text, update
from sqlalchemy.orm import Session, joinedload

from core.domain.webhook import Room, WebhookEvent
from core.infra.table import Job, WebhookDelivery
from core.infra.table.job import UNTOLD

_LOOKED_AT = 200
"""Deliveries of a tenant that are due longest and among which hosts take turns, however many more there are."""

OUTCOMES = ("waiting", "retrying", "delivered", "given_up")
_NOTE = text(
    f"""
    WITH ended AS (
      UPDATE job SET webhook_noted_at = now()
      WHERE id IN (
        SELECT id FROM job WHERE {UNTOLD} AND completed_at IS NOT NULL
        ORDER BY completed_at LIMIT :limit FOR UPDATE SKIP LOCKED)
      RETURNING id, tenant_id, webhook, webhook_events, started_at, completed_at, status
    ), begun AS (
      SELECT id, tenant_id, webhook, webhook_events, started_at, completed_at, status
      FROM job WHERE {UNTOLD} AND completed_at IS NULL
    ), noted AS (
      SELECT * FROM ended UNION ALL SELECT * FROM begun
    )
    INSERT INTO webhook_delivery (id, tenant_id, job_id, event, host, next_at)
    SELECT gen_random_uuid(), tenant_id, noted.id, event, lower(substring(webhook FROM '://([^/?]+)')), now()
    FROM noted CROSS JOIN unnest(webhook_events) AS event
    WHERE CASE event
      WHEN '{WebhookEvent.START}' THEN started_at IS NOT NULL
      WHEN '{WebhookEvent.OUTPUT}' THEN completed_at IS NOT NULL
        AND EXISTS (SELECT FROM artifact WHERE artifact.job_id = noted.id)
      ELSE completed_at IS NOT NULL END
    ON CONFLICT (job_id, event) DO NOTHING
    """  # noqa: S608  # made of constants
)
_TAKE = text(
    """
    WITH busy AS (
      SELECT * FROM unnest(:tenants, :hosts) AS held(tenant_id, host)
    ), due AS (
      SELECT longest.*, row_number() OVER (PARTITION BY tenant_id, host ORDER BY next_at, longest.id) AS turn
      FROM tenant CROSS JOIN LATERAL (
        SELECT id, tenant_id, host, next_at FROM webhook_delivery
        WHERE tenant_id = tenant.id AND next_at <= now() ORDER BY next_at LIMIT :looked_at) AS longest
    ), by_tenant AS (
      SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY turn, next_at, id)
        + (SELECT count(*) FROM busy WHERE busy.tenant_id = due.tenant_id) AS of_tenant
      FROM due WHERE turn <= :per_host
    ), by_host AS (
      SELECT *, row_number() OVER (PARTITION BY host ORDER BY turn, next_at, id)
        + (SELECT count(*) FROM busy WHERE busy.host = by_tenant.host) AS of_host
      FROM by_tenant WHERE of_tenant <= :per_tenant
    ), free AS (
      SELECT id FROM webhook_delivery
      WHERE next_at <= now() AND id IN (
        SELECT id FROM by_host WHERE of_host <= :per_host ORDER BY turn, next_at, id LIMIT :room)
      FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_delivery SET attempt = attempt + 1, next_at = now() + :lease
    FROM free WHERE webhook_delivery.id = free.id
    RETURNING webhook_delivery.id
    """
).bindparams(
    bindparam("tenants", type_=ARRAY(Uuid())),
    bindparam("hosts", type_=ARRAY(Text())),
    bindparam("per_host", type_=Integer()),
    bindparam("per_tenant", type_=Integer()),
    bindparam("room", type_=Integer()),
    bindparam("looked_at", _LOOKED_AT, type_=Integer()),
    bindparam("lease", type_=Interval()),
)


def note(session: Session, *, limit: int) -> int:
    """Write down every event that the state of jobs implies and that is not there yet; how many.

    An ended job is looked at once: no more events come. What is looked at and what is written is of one moment.
    """
    return _count(session.execute(_NOTE, {"limit": limit}))


def _count(result: Any) -> int:
    return int(cast("CursorResult[Any]", result).rowcount)


def take_due(
    session: Session, *, room: Room, busy: Collection[tuple[UUID, str]], lease: timedelta
) -> Sequence[WebhookDelivery]:
    """Deliveries that are due, with their jobs and outputs: of each tenant and each host in turns.

    Nobody else gets them before `lease` is over. `busy` are the tenants and hosts of those that the process has.
    """
    given = {
        "tenants": [tenant_id for tenant_id, _ in busy],
        "hosts": [host for _, host in busy],
        "room": room.free,
        "per_tenant": room.per_tenant,
        "per_host": room.per_host,
        "lease": lease,
    }
    taken = session.execute(_TAKE, given).scalars().all()
    if not taken:
        return []
    whole = joinedload(WebhookDelivery.job).selectinload(Job.artifacts)
    query = select(WebhookDelivery).where(WebhookDelivery.id.in_(taken)).options(whole)
    return session.scalars(query.order_by(WebhookDelivery.created_at, WebhookDelivery.id)).all()


def now(session: Session) -> datetime:
    """The database's own time, which receivers are told."""
    return session.scalars(select(func.now())).one()


def close(session: Session, *, delivery_id: UUID, held_until: datetime, values: dict[str, Any]) -> bool:
    """Write what came of a try that still holds its delivery; whether it did."""
    statement = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.next_at == held_until)
    return _count(session.execute(statement.values(**values), execution_options={"synchronize_session": False})) == 1


def of_job(session: Session, *, job_id: UUID) -> Sequence[WebhookDelivery]:
    """What a job's webhook was told, the newest first."""
    query = select(WebhookDelivery).where(WebhookDelivery.job_id == job_id)
    return session.scalars(query.order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.event)).all()


def by_id(session: Session, *, job_id: UUID, delivery_id: UUID) -> WebhookDelivery | None:
    """A delivery of a job, locked."""
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.job_id == job_id)
    return session.scalars(query.with_for_update()).one_or_none()


def count_by_outcome(session: Session) -> dict[str, int]:
    """How many deliveries there are of each outcome."""
    outcome = case(
        (WebhookDelivery.delivered_at.is_not(None), "delivered"),
        (WebhookDelivery.given_up_at.is_not(None), "given_up"),
        (WebhookDelivery.error.is_not(None), "retrying"),
        else_="waiting",
    )
    return {row[0]: row[1] for row in session.execute(select(outcome, func.count()).group_by(outcome))}


def overdue_seconds(session: Session) -> float:
    """For how long the delivery that is due longest has waited; 0 where none is due."""
    first = func.min(WebhookDelivery.next_at)
    query = select(func.extract("epoch", func.now() - first)).where(WebhookDelivery.next_at.is_not(None))
    return max(0.0, float(session.scalar(query) or 0.0))
