"""Request headers with a meaning: Idempotency-Key, Cancel-After, Job-Priority, Prefer."""

import hashlib
import re
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Header
from pydantic import BaseModel

from core.domain.errors import InvalidInput
from core.domain.job import JobPriority, PriorityName
from core.domain.webhook import Notified
from core.services.job import Idempotency
from core.services.terms import Terms

MAX_WAIT_SECONDS = 60
_MAX_CANCEL_AFTER = timedelta(days=30)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?:$|[,;])")

IdempotencyKey = Annotated[
    str | None,
    Header(description="Send a request again safely: for 24 hours the same key and body give the same job."),
]
CancelAfter = Annotated[
    str | None, Header(description="End the job if it is not done in time.", examples=["30s", "10m", "2h"])
]
Priority = Annotated[
    PriorityName,
    Header(
        alias="Job-Priority",
        description="How urgent the job is among your own: it takes the turn of a less urgent one that waits and is no "
        "smaller. It changes nothing for others.",
    ),
]
Prefer = Annotated[
    str | None,
    Header(description="`wait=N` answers 200 with the finished job if it is done within N seconds, 1 to 60."),
]


def read_terms(
    tenant_id: UUID,
    spec: BaseModel,
    *,
    idempotency_key: str | None,
    cancel_after: str | None,
    priority: Priority = "normal",
) -> Terms:
    """The terms of a request for a job.

    Raises:
        InvalidInput: a header has no meaning.
    """
    return Terms(
        tenant_id=tenant_id,
        idempotency=_idempotency(idempotency_key, spec),
        cancel_after=_cancel_after(cancel_after),
        priority=JobPriority[priority.upper()],
    )


def _idempotency(key: str | None, spec: BaseModel) -> Idempotency | None:
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidInput.of("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    request = f"{type(spec).__name__}\n{spec.model_dump_json()}"
    if isinstance(spec, Notified) and (webhook := spec.asked_webhook):  # no dump has it
        request += f"\n{webhook.url}\n{','.join(webhook.events)}"
    return Idempotency(key, hashlib.sha256(request.encode()).hexdigest())


def _cancel_after(text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(0) < duration <= _MAX_CANCEL_AFTER:
        raise InvalidInput.of("Cancel-After", "must be a number with s, m, h or d, at most 30d: 30s, 10m, 2h")
    return duration


def wait_seconds(prefer: str | None) -> int:
    """For how long the caller would wait, 0 for not at all; a preference that makes no sense is none (RFC 7240)."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0
