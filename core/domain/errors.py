"""Every error the project raises on purpose, each with a stable code.

LorikeetError
├── InvalidInput            the caller can fix it; names each field
│   └── IdempotencyKeyReuse
├── Unauthorized            no key, or a wrong one
├── Forbidden               a key that does not go so far
├── NotFound                does not exist, or belongs to another tenant
├── Conflict                the state does not allow it
├── Refused                 too much: try again later
│   ├── QueueFull               of the tenant's work waits already
│   ├── QuotaExceeded           of the GPUs' time was used today
│   ├── TooManyRequests         came by this key
│   └── TooMuchAtOnce           of the tenant's is at work already
├── Unavailable             a system behind us is down
│   └── HubUnavailable          the one that a base model comes from
├── JobFailure              ends a job as failed; the message is for its owner
│   ├── ModelUnusable
│   ├── AdapterUnusable
│   ├── DatasetUnusable
│   ├── OutOfMemory
│   └── TrainingDiverged
└── JobStopped              ends a run without failing the job
    ├── OwnershipLost           another worker holds the job now
    ├── JobCanceled             its owner asked for it
    └── JobInterrupted          the worker drains; the job goes back to the queue
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

_SHOWN = 100


@dataclass(frozen=True)
class FieldProblem:
    """One field that is wrong: `field` is its dotted path, `message` says what to change."""

    field: str
    message: str


class LorikeetError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidInput(LorikeetError):
    """The request is not valid."""

    code = "validation_error"

    def __init__(self, problems: Sequence[FieldProblem], message: str | None = None) -> None:
        self.problems = tuple(problems)
        shown = [f"{each.field}: {each.message}" for each in self.shown_problems]
        if left := len(problems) - len(shown):
            shown.append(f"and {left} more")
        super().__init__(message or "; ".join(shown))

    @property
    def shown_problems(self) -> Sequence[FieldProblem]:
        """As many as somebody may read; a request can be wrong in any number of places."""
        return self.problems[:_SHOWN]

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidInput":
        return cls([FieldProblem(field, message)])


class IdempotencyKeyReuse(InvalidInput):
    """This Idempotency-Key was used for a different request."""

    code = "idempotency_key_reuse"

    def __init__(self) -> None:
        problem = FieldProblem("Idempotency-Key", "was used for a different request; use a new key")
        super().__init__([problem], "This Idempotency-Key was used for a different request.")


class Unauthorized(LorikeetError):
    """A valid API key is required: send `Authorization: Bearer <key>`."""

    code = "unauthorized"


class Forbidden(LorikeetError):
    """The API key does not go so far."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs an API key with the scope {scope}.")
        self.scope = scope


class NotFound(LorikeetError):
    """There is no such thing."""

    code = "not_found"


class Conflict(LorikeetError):
    """The current state does not allow this."""

    code = "conflict"


class Refused(LorikeetError):
    """This is too much for now; the same request may be sent again after `retry_after_seconds`."""

    code = "refused"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 10) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(Refused):
    """Too much work is waiting already."""

    code = "queue_full"


class QuotaExceeded(Refused):
    """The GPU seconds of a day are used up."""

    code = "quota_exceeded"


class TooManyRequests(Refused):
    """This key sends too many requests."""

    code = "too_many_requests"


class TooMuchAtOnce(Refused):
    """Too much of this tenant's is at work already."""

    code = "too_much_at_once"


class Unavailable(LorikeetError):
    """A system this service needs is not reachable right now."""

    code = "unavailable"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class HubUnavailable(Unavailable):
    """The hub that a base model comes from is not reachable right now."""


class JobFailure(LorikeetError):
    """The job cannot be done."""

    code = "job_failed"


class ModelUnusable(JobFailure):
    """The base model cannot be loaded."""

    code = "model_unusable"


class AdapterUnusable(JobFailure):
    """The adapter cannot be used with this base model."""

    code = "adapter_unusable"


class DatasetUnusable(JobFailure):
    """The dataset cannot be used."""

    code = "dataset_unusable"


class OutOfMemory(JobFailure):
    """The device has not enough memory for this request."""

    code = "out_of_memory"


class TrainingDiverged(JobFailure):
    """The training loss became infinite or not a number."""

    code = "training_diverged"


class JobStopped(LorikeetError):
    """The run was stopped."""

    code = "job_stopped"


class OwnershipLost(JobStopped):
    """Another worker holds this job now."""

    code = "ownership_lost"


class JobCanceled(JobStopped):
    """The job's owner canceled it."""

    code = "job_canceled"


class JobInterrupted(JobStopped):
    """The worker drains; the job goes back to the queue."""

    code = "job_interrupted"
