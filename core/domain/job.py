"""A job's kinds, its statuses, and the transitions between them.

    queued ──► running ──► succeeded | failed | canceled | expired
      ▲           │
      └───────────┘  lease lost, or the worker drains
    queued ──► canceled | expired

A running job whose cancel was asked for is shown as `canceling` until its worker has let go.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import Literal


class JobKind(StrEnum):
    GENERATION = "generation"
    TRAINING = "training"
    REGISTRATION = "registration"  # fetch a base model, check it, load it once
    MODEL_UPDATE = "model_update"  # train on feedback, evaluate, say whether the new adapter is better


class WorkerKind(StrEnum):
    """What a worker process is for: pictures at once, or one long training."""

    GENERATION = "generation"
    TRAINING = "training"


ALIVE_SECONDS = 30.0
"""A worker that was not seen for so long does not count."""

PLAN_VERSION = 1
"""Of the words that plans are in: raised with every change of a plan, or an old worker would fail what it cannot read.

It leaves such jobs in line for a worker that can; a test notices a change.
"""


class JobPriority(IntEnum):
    """How urgent a job is among its tenant's own; the lowest number goes first."""

    HIGH = -1
    NORMAL = 0
    LOW = 1


PriorityName = Literal["high", "normal", "low"]

KINDS_OF_WORKER: dict[WorkerKind, tuple[JobKind, ...]] = {
    WorkerKind.GENERATION: (JobKind.GENERATION, JobKind.REGISTRATION),
    WorkerKind.TRAINING: (JobKind.TRAINING, JobKind.MODEL_UPDATE),
}
WORKER_OF_KIND = {kind: worker for worker, kinds in KINDS_OF_WORKER.items() for kind in kinds}


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    CANCELING = "canceling"  # shown only; stored as running with cancel_requested
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


STORED = frozenset(JobStatus) - {JobStatus.CANCELING}
TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.EXPIRED})
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELED, JobStatus.EXPIRED}),
    JobStatus.RUNNING: TERMINAL | {JobStatus.QUEUED},
}

SUSPECT_CRASHES = 2
"""Leases lost after which a job runs alone, so that it is not blamed for a neighbour, nor a neighbour for it."""

MAX_CRASHES = SUSPECT_CRASHES + 2
"""Leases a job may lose before it is taken for the thing that kills its workers: two of them alone."""

POISONED = "poisoned"
"""The code of the error that it fails with then."""

MAX_ATTEMPTS = 3
"""Unexpected errors of the work before the job fails."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: `step` of `steps` done, and what it does now."""

    step: int = 0
    steps: int = 0
    message: str = ""

    @property
    def value(self) -> float:
        """Share done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def retry_delay(failure_count: int) -> timedelta:
    """Wait before a job runs again after its n-th failure or crash: 1, 2, 4 … at most 60 seconds."""
    return timedelta(seconds=min(60, 2 ** max(0, failure_count - 1)))
