"""Webhooks: write down what has to be told, hand it to who tells it, remember what came of it, tell it again."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.errors import NotFound
from core.domain.job import JobKind, JobStatus
from core.domain.webhook import Answer, Room, Told, WebhookEvent, next_delay
from core.infra.repository import lock
from core.infra.repository import webhook as deliveries
from core.infra.table import WebhookDelivery
from core.services import job as jobs
from core.services import webhook_secret as secrets

_BATCH = 500
_LEASE = timedelta(seconds=60)
"""After that, whoever took a delivery is dead, for no try takes so long."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A delivery on its way. `held_until` is what its result is written under; `at` is what the receiver is told."""

    id: UUID
    tenant_id: UUID
    job_id: UUID
    host: str
    url: str = field(repr=False)
    words: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    attempt: int
    at: datetime
    held_until: datetime


def note_events(session: Session) -> int:
    """Write down what jobs that started or ended since have to tell; how many events.

    It looks at the jobs, so whoever ended one, and whatever died then, no event is lost; and none is there twice.
    """
    if not lock.try_take(session, "webhook events"):
        return 0  # another upkeep does it just now, and would have to be waited for
    return deliveries.note(session, limit=_BATCH)


def take(
    session: Session, *, room: Room, busy: Collection[tuple[UUID, str]], public_url: str | None
) -> Sequence[Letter]:
    """Deliveries that are due, for this process alone until it says what came of them, or is taken for dead."""
    taken = deliveries.take_due(session, room=room, busy=busy, lease=_LEASE)
    signing = {tenant_id: tuple(secrets.signing(session, tenant_id=tenant_id)) for tenant_id in _tenants(taken)}
    at = deliveries.now(session)
    return [_letter(each, signing[each.tenant_id], at=at, public_url=public_url) for each in taken]


def _tenants(taken: Sequence[WebhookDelivery]) -> Sequence[UUID]:
    return sorted({each.tenant_id for each in taken})  # in order, so that two who make secrets do not wait in a ring


def _letter(row: WebhookDelivery, signing: tuple[str, ...], *, at: datetime, public_url: str | None) -> Letter:
    assert row.job.webhook is not None
    assert row.next_at is not None
    return Letter(
        id=row.id,
        tenant_id=row.tenant_id,
        job_id=row.job_id,
        host=row.host,
        url=row.job.webhook,
        words=_told(row, public_url).words(),
        secrets=signing,
        attempt=row.attempt,
        at=at,
        held_until=row.next_at,
    )


def _told(row: WebhookDelivery, public_url: str | None) -> Told:
    """What an event says, however much later it is told: of its start a job that has ended is shown as it was then."""
    job, event = row.job, WebhookEvent(row.event)
    said: dict[str, Any] = {
        "event": event,
        "job_id": job.id,
        "kind": JobKind(job.kind),
        "url": f"{public_url.rstrip('/')}/api/jobs/{job.id}" if public_url else None,
    }
    if event is WebhookEvent.START:
        assert job.started_at is not None
        return Told(**said, at=job.started_at, status=JobStatus.RUNNING)
    assert job.completed_at is not None
    error = (job.error_code, job.error_message or "") if job.error_code else None
    outputs = [(artifact.id, artifact.type, artifact.sha256) for artifact in job.artifacts]
    return Told(**said, at=job.completed_at, status=JobStatus(job.status), error=error, outputs=outputs)


def record(session: Session, letter: Letter, answer: Answer) -> bool:
    """Remember what came of a try, and when the next one is; whether the delivery was still held."""
    values: dict[str, Any] = {"status_code": answer.status_code, "error": answer.error, "next_at": None}
    delay = None if answer.is_final else next_delay(letter.attempt, luck=random.random(), asked=answer.asked_delay)
    if answer.is_delivered:
        values["delivered_at"] = func.now()
    elif delay is None:
        values["given_up_at"] = func.now()
    else:
        values["next_at"] = func.now() + delay
    return deliveries.close(session, delivery_id=letter.id, held_until=letter.held_until, values=values)


def of_job(session: Session, *, tenant_id: UUID, job_id: UUID) -> Sequence[WebhookDelivery]:
    """What a job's webhook was told so far, and what came of it.

    Raises:
        NotFound: no such job, or another tenant's.
    """
    jobs.get(session, tenant_id=tenant_id, job_id=job_id)
    return deliveries.of_job(session, job_id=job_id)


def replay(session: Session, *, tenant_id: UUID, job_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    """Tell an event again, in a fresh round of tries under the same id.

    Raises:
        NotFound: the job tells no such event, or is another tenant's.
    """
    jobs.get(session, tenant_id=tenant_id, job_id=job_id)
    delivery = deliveries.by_id(session, job_id=job_id, delivery_id=delivery_id)
    if delivery is None:
        raise NotFound(f"The job {job_id} has no webhook delivery {delivery_id}.")
    delivery.attempt, delivery.next_at = 0, func.now()
    delivery.delivered_at = delivery.given_up_at = None
    delivery.status_code = delivery.error = None
    session.flush()
    session.refresh(delivery)
    return delivery
