"""Verbs of webhooks, each in its own transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from core.domain.webhook import Answer, Room, Webhook, WebhookEvent
from core.infra.table import Job
from core.services import webhook as webhooks
from core.services.webhook import Letter
from tests.job_bench import JobBench

ALL = Webhook("https://hooks.example.com:8443/a?token=x", tuple(WebhookEvent))
FAILED = Answer(500, "It answered 500.")


def submit(bench: JobBench, webhook: Webhook | None = ALL, **changes: Any) -> Job:
    return bench.submit(webhook=webhook, **changes)


def note(bench: JobBench) -> int:
    with bench.database.transaction() as session:
        return webhooks.note_events(session)


def noted(bench: JobBench, job: Job) -> list[str]:
    note(bench)
    with bench.database.transaction() as session:
        found = webhooks.of_job(session, tenant_id=bench.tenant_id, job_id=job.id)
        return sorted(each.event for each in found)


def take(bench: JobBench, *, slots: int = 16, busy: Sequence[Letter] = ()) -> Sequence[Letter]:
    room = Room.of(slots, taken=len(busy))
    with bench.database.transaction() as session:
        held = [(letter.tenant_id, letter.host) for letter in busy]
        return webhooks.take(session, room=room, busy=held, public_url="https://pictures.example.com/")


def record(bench: JobBench, letter: Letter, answer: Answer) -> bool:
    with bench.database.transaction() as session:
        return webhooks.record(session, letter, answer)


def be_due(bench: JobBench) -> None:
    bench.execute("UPDATE webhook_delivery SET next_at = now() WHERE next_at IS NOT NULL")


def row(bench: JobBench, delivery_id: UUID) -> Any:
    with bench.database.transaction() as session:
        query = text("SELECT *, next_at - now() AS wait FROM webhook_delivery WHERE id = :id")
        return session.execute(query, {"id": delivery_id}).one()


def begin(bench: JobBench, *, tenant_id: UUID, url: str, count: int) -> None:
    """Jobs of a tenant that have started."""
    for _ in range(count):
        bench.submit(tenant_id=tenant_id, webhook=Webhook(url, (WebhookEvent.START,)))
    while bench.claim() is not None:
        pass
    note(bench)
