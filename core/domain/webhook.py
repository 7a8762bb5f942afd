"""Webhooks: of what a job's owner wants to be told, in which words, and when it is said again."""

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field, ValidationInfo, field_validator

from core.domain.job import JobKind, JobStatus
from core.domain.value import Specification, Text
from core.domain.webhook_url import MAX_LETTERS, read_webhook_url

SECRET_OVERLAP = timedelta(hours=24)
"""For how long a secret that was replaced goes on signing."""

_DELAYS = tuple(timedelta(minutes=minutes) for minutes in (0.1, 1, 5, 30, 120, 360, 900))
MAX_TRIES = len(_DELAYS) + 1
"""Within about a day."""

_LONGEST_DELAY = _DELAYS[-1]
_NO_TIME = timedelta(0)
_JITTER = 0.2
_SECRET_BYTES = 32
_OK, _REDIRECTED, _ERRORS, _GONE = 200, 300, 400, 410


class WebhookEvent(StrEnum):
    START = "start"  # a worker has begun; said once, however often the job runs
    OUTPUT = "output"  # it succeeded, and left outputs
    COMPLETED = "completed"  # it ended, in whatever way


@dataclass(frozen=True)
class Webhook:
    """Whom to tell, and what of."""

    url: str
    events: tuple[WebhookEvent, ...]


class Notified(Specification):
    """Something whose owner may want to be told how it goes.

    The URL may hold secrets of his, so no dump of a specification has it: not the job's own record of the request, not
    its plan, no receipt, no file.
    """

    webhook: (
        Annotated[
            Text,
            Field(
                min_length=1,
                max_length=MAX_LETTERS,
                description="an https URL that is told how the job goes",
                examples=["https://example.com/hooks/lorikeet"],
            ),
        ]
        | None
    ) = Field(default=None, exclude=True)
    webhook_events: (
        Annotated[tuple[WebhookEvent, ...], Field(min_length=1, max_length=8, description="left out: completed")] | None
    ) = Field(default=None, exclude=True)

    @field_validator("webhook_events")
    @classmethod
    def _need_a_webhook(
        cls, events: tuple[WebhookEvent, ...] | None, info: ValidationInfo
    ) -> tuple[WebhookEvent, ...] | None:
        if events is not None and info.data.get("webhook", "") is None:
            raise ValueError("needs a webhook to be told of them: give it too, or leave webhook_events out")
        return events

    @property
    def asked_webhook(self) -> Webhook | None:
        """Whom to tell, each event once; None where nobody is."""
        if self.webhook is None:
            return None
        wanted = self.webhook_events or (WebhookEvent.COMPLETED,)
        return Webhook(self.webhook, tuple(event for event in WebhookEvent if event in wanted))

    def check_webhook(self, *, private: bool) -> None:
        """Let only a URL pass that may be posted to; see `read_webhook_url`.

        Raises:
            InvalidInput: it may not.
        """
        if self.webhook is not None:
            read_webhook_url(self.webhook, private=private)


@dataclass(frozen=True)
class Told:
    """What is said of a job; `at` is when it came about."""

    event: WebhookEvent
    at: datetime
    job_id: UUID
    kind: JobKind
    status: JobStatus
    url: str | None
    error: tuple[str, str] | None = None
    outputs: Sequence[tuple[UUID, str, str]] = ()

    def words(self) -> bytes:
        """The body of the request; every try says the same. No prompts, nothing signed: the job itself has it all."""
        outputs = [{"id": str(each), "type": type_, "sha256": sha256} for each, type_, sha256 in self.outputs]
        data: dict[str, Any] = {
            "job_id": str(self.job_id),
            "kind": self.kind,
            "status": self.status,
            "error": None if self.error is None else {"code": self.error[0], "message": self.error[1]},
            "outputs": outputs,
            "url": self.url,
        }
        said = {"type": f"job.{self.event}", "timestamp": self.at.isoformat(), "data": data}
        return json.dumps(said, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Answer:
    """What came of one try. `error` is None where it was delivered; `is_final` says that no other try would help.

    `asked_delay` is for how long the receiver wants to be left alone.
    """

    status_code: int | None = None
    error: str | None = None
    is_final: bool = False
    asked_delay: timedelta = _NO_TIME

    @property
    def is_delivered(self) -> bool:
        return self.error is None


def judge(status_code: int, *, asked_delay: timedelta = _NO_TIME) -> Answer:
    """What a receiver's status means."""
    if _OK <= status_code < _REDIRECTED:
        return Answer(status_code)
    if _REDIRECTED <= status_code < _ERRORS:
        return Answer(status_code, f"It answered {status_code}: redirects are not followed.")
    is_final = status_code == _GONE
    return Answer(status_code, f"It answered {status_code}.", is_final=is_final, asked_delay=asked_delay)


def read_retry_after(value: str, *, now: datetime) -> timedelta:
    """For how long a `Retry-After` asks us to wait, by seconds or by a date (RFC 9110, 10.2.3); 0 where it is neither.

    No longer than the longest of our own delays.
    """
    try:
        if value.isascii() and value.isdigit():
            return timedelta(seconds=min(int(value), _LONGEST_DELAY.total_seconds()))
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return _NO_TIME
    wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return min(max(wait, _NO_TIME), _LONGEST_DELAY)


@dataclass(frozen=True)
class Room:
    """How many deliveries may be taken, and how many of one tenant and to one host may be under way at once.

    So a receiver that is slow, or a tenant with many of them, keeps nobody else waiting.
    """

    free: int
    per_tenant: int
    per_host: int

    @classmethod
    def of(cls, slots: int, *, taken: int = 0) -> Self:
        """A tenant may have half of the slots, a host a quarter."""
        return cls(max(0, slots - taken), per_tenant=max(1, slots // 2), per_host=max(1, slots // 4))


def next_delay(tries: int, *, luck: float, asked: timedelta = _NO_TIME) -> timedelta | None:
    """Wait after so many tries that failed, a fifth more or less by `luck` from 0 to 1; None where there were enough.

    Luck spreads the tries that a receiver's failure brought together. A receiver that `asked` for a longer wait has it.
    """
    if tries >= MAX_TRIES:
        return None
    return max(_DELAYS[tries - 1] * (1 + _JITTER * (2 * luck - 1)), asked)


def make_secret() -> str:
    """A new secret to sign with, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
