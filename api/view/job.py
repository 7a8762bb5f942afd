"""A job as its owner sees it."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.link import Link
from api.view.image import OutputView
from core.domain.job import JobKind, JobPriority, JobStatus, PriorityName, Progress
from core.domain.retention import Retention
from core.infra.table import Job
from core.services.job import Outlook, shown_status

_PRIORITY: dict[int, PriorityName] = {JobPriority.HIGH: "high", JobPriority.NORMAL: "normal", JobPriority.LOW: "low"}


class ProgressView(BaseModel):
    """How far a run is; `value` goes from 0 to 1."""

    value: float
    step: int
    steps: int
    message: str


class JobError(BaseModel):
    """Why a job did not succeed; `code` never changes its meaning."""

    code: str
    message: str


class JobMetrics(BaseModel):
    """Where the time went."""

    queue_ms: int | None = Field(description="from acceptance to the first start")
    execution_ms: int | None = Field(description="of the run that ended the job")
    gpu_seconds: float | None = Field(description="of a device, where the worker measured them")


class JobUrls(BaseModel):
    """What can be done with a job."""

    self: str
    cancel: str
    webhooks: str


class JobView(BaseModel):
    """Follow the links, don't build them."""

    id: UUID
    kind: JobKind
    status: JobStatus
    priority: PriorityName = Field(description="among your own jobs")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None = Field(
        description="when the job and its outputs are removed; null while an adapter, a model update or somebody's "
        "word on a picture keeps them"
    )
    queue_position: int | None = Field(description="jobs before this one, while it waits")
    estimated_wait_seconds: float | None = Field(description="until it starts; null where nobody works")
    progress: ProgressView
    outputs: list[OutputView]
    error: JobError | None
    warnings: list[Any]
    metrics: JobMetrics
    webhook: str | None = Field(description="who is told how the job goes, without the query string")
    urls: JobUrls


def view(
    job: Job, link: Link, *, retention: Retention, kept: Collection[UUID], outlook: Outlook | None = None
) -> JobView:
    """A job with its artifacts loaded, as JSON. `kept` are jobs that stay beyond their retention."""
    outlook = outlook or Outlook(None, None)
    url = link.job(job.id)
    return JobView(
        id=job.id,
        kind=JobKind(job.kind),
        status=shown_status(job),
        priority=_PRIORITY[job.priority],
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.completed_at,
        expires_at=None if job.id in kept else _expires_at(job, retention),
        queue_position=outlook.queue_position,
        estimated_wait_seconds=outlook.estimated_wait_seconds,
        progress=progress_of(job),
        outputs=[OutputView.of(artifact, link) for artifact in job.artifacts],
        error=JobError(code=job.error_code, message=job.error_message or "") if job.error_code else None,
        warnings=[*job.warnings, *outlook.warnings],
        metrics=JobMetrics(
            queue_ms=_milliseconds(job.started_at - job.created_at) if job.started_at else None,
            execution_ms=None if job.execution_seconds is None else round(job.execution_seconds * 1000),
            gpu_seconds=None,
        ),
        webhook=job.webhook and job.webhook.partition("?")[0],
        urls=JobUrls(self=url, cancel=f"{url}/cancel", webhooks=f"{url}/webhooks"),
    )


def _expires_at(job: Job, retention: Retention) -> datetime | None:
    return None if job.completed_at is None else job.completed_at + retention.of(JobKind(job.kind))


def progress_of(job: Job) -> ProgressView:
    """How far a job is."""
    progress = Progress(job.progress_step, job.progress_steps, job.progress_message)
    value = 1.0 if job.status == JobStatus.SUCCEEDED else progress.value
    return ProgressView(value=value, step=progress.step, steps=progress.steps, message=progress.message)


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
