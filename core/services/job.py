"""What a client does with a job: submit it, read it, cancel it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from core.domain.cursor import make_cursor, read_cursor
from core.domain.errors import IdempotencyKeyReuse, NotFound
from core.domain.job import (
    ALIVE_SECONDS,
    KINDS_OF_WORKER,
    PLAN_VERSION,
    WORKER_OF_KIND,
    JobKind,
    JobPriority,
    JobStatus,
)
from core.domain.limit import Limits
from core.domain.webhook import Webhook
from core.infra.database import after_commit
from core.infra.repository import admission as admissions
from core.infra.repository import job as jobs
from core.infra.repository import worker as workers
from core.infra.repository.admission import Admission
from core.infra.table import Job
from core.infra.task_queue import TaskQueue
from core.services.refusal import refusal

_GUESSED_SECONDS_PER_UNIT = 0.01
"""Before the first job of its kind is done; a GPU is faster, a laptop slower."""


_FRESH = {
    "status": JobStatus.QUEUED,
    "cancel_requested": False,
    "progress_step": 0,
    "progress_steps": 0,
    "progress_message": "",
}


@dataclass(frozen=True)
class Idempotency:
    """The client's key, and the digest of the request it came with."""

    key: str
    request_sha256: str


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A checked request, with nothing left open, ready to become a job.

    `work_units` is the size of the work in units of which one takes about equally long for every job of this
    kind on this base model.
    """

    tenant_id: UUID
    kind: JobKind
    spec: dict[str, Any]
    plan: dict[str, Any]
    base_model_id: UUID
    work_units: float
    dataset_id: UUID | None = None
    idempotency: Idempotency | None = None
    cancel_after: timedelta | None = None
    priority: JobPriority = JobPriority.NORMAL
    webhook: Webhook | None = None


@dataclass(frozen=True)
class Outlook:
    """What a queued job's owner may expect: 0 is first in line; the wait is in seconds, None where nobody works.

    `warnings` say what will probably go wrong.
    """

    queue_position: int | None
    estimated_wait_seconds: float | None
    warnings: tuple[str, ...] = ()


def find_replay(session: Session, *, tenant_id: UUID, idempotency: Idempotency) -> Job | None:
    """The job that an earlier request with this key made, if any.

    Raises:
        IdempotencyKeyReuse: the key came with another request.
    """
    job = jobs.by_idempotency_key(session, tenant_id=tenant_id, key=idempotency.key)
    if job is not None and job.request_sha256 != idempotency.request_sha256:
        raise IdempotencyKeyReuse
    return job


@dataclass(frozen=True)
class Accepted:
    """A job that was submitted, and what its owner may expect."""

    job: Job
    outlook: Outlook


def submit(session: Session, submission: Submission, *, queue: TaskQueue, limits: Limits) -> Accepted:
    """Write the job's row; its doorbell rings after the commit.

    The same idempotency key and request give the same job, however many ask at once. The job that is returned is no
    part of the session: a submit has no time to read back what it wrote.

    Raises:
        QueueFull: the tenant has too much work waiting, or all tenants have.
        QuotaExceeded: its jobs have run for as long as they may in a day.
        IdempotencyKeyReuse: the key came with another request.
    """
    values = _row(submission)
    admission = _admit(session, submission, values, limits)
    if admission.created_at is None:
        replay = submission.idempotency and find_replay(
            session, tenant_id=submission.tenant_id, idempotency=submission.idempotency
        )
        if replay:
            return accepted(session, replay)
        if admission.fits:  # others came at the same instant; their transactions have ended by now, and none is beside
            admission = _admit(session, submission, values, limits)
    if admission.created_at is None:
        worker = WORKER_OF_KIND[submission.kind]
        raise refusal(session, tenant_id=submission.tenant_id, worker=worker, standing=admission, limits=limits)
    kind, job_id = submission.kind, values["id"]
    after_commit(session, lambda: _ring(queue, kind, job_id))
    found = {"cost_seconds": admission.cost, "place": admission.place, "created_at": admission.created_at}
    job = Job(**values, **_FRESH, warnings=[], **found)
    assert admission.jobs_ahead is not None
    assert admission.cost_ahead is not None
    expected = _expect(admission.jobs_ahead, admission.cost_ahead, admission.slots)
    return Accepted(job, _in_time(expected, admission.cost, left=submission.cancel_after))


def _admit(session: Session, submission: Submission, values: dict[str, Any], limits: Limits) -> Admission:
    worker = WORKER_OF_KIND[submission.kind]
    return admissions.admit(
        session,
        values,
        cancel_after=submission.cancel_after,
        worker=worker,
        kinds=KINDS_OF_WORKER[worker],
        guessed_seconds_per_unit=_GUESSED_SECONDS_PER_UNIT,
        limits=limits,
        seen_within_seconds=ALIVE_SECONDS,
    )


def accepted(session: Session, job: Job) -> Accepted:
    """A job that was submitted before."""
    return Accepted(job, outlook(session, job))


def _ring(queue: TaskQueue, kind: JobKind, job_id: UUID) -> None:
    queue.ring(kind, job_id)


def _row(submission: Submission) -> dict[str, Any]:
    idempotency, webhook = submission.idempotency, submission.webhook
    return {
        "id": uuid4(),
        "tenant_id": submission.tenant_id,
        "kind": submission.kind,
        "spec": submission.spec,
        "plan": submission.plan,
        "plan_version": PLAN_VERSION,
        "base_model_id": submission.base_model_id,
        "dataset_id": submission.dataset_id,
        "priority": submission.priority,
        "work_units": submission.work_units,
        "idempotency_key": idempotency.key if idempotency else None,
        "request_sha256": idempotency.request_sha256 if idempotency else None,
        "webhook": webhook.url if webhook else None,
        "webhook_events": list(webhook.events) if webhook else None,
    }


def get(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """A tenant's job with its artifacts.

    Raises:
        NotFound: no such job, or another tenant's.
    """
    job = jobs.by_id(session, tenant_id=tenant_id, job_id=job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def list_page(
    session: Session,
    *,
    tenant_id: UUID,
    status: JobStatus | None = None,
    kind: JobKind | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> tuple[Sequence[Job], str | None]:
    """A tenant's jobs, newest first, and the cursor of the next page, None at the end.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    before = read_cursor(cursor) if cursor else None
    found = jobs.page(session, tenant_id=tenant_id, status=status, kind=kind, before=before, limit=limit + 1)
    shown = found[:limit]
    return shown, make_cursor(shown[-1].created_at, shown[-1].id) if len(found) > limit else None


def cancel(session: Session, *, tenant_id: UUID, job_id: UUID) -> Job:
    """Cancel a queued job at once, ask a running one to stop, leave a finished one as it is.

    Raises:
        NotFound: no such job, or another tenant's.
    """
    jobs.request_cancel(session, tenant_id=tenant_id, job_id=job_id)
    return get(session, tenant_id=tenant_id, job_id=job_id)


def ended_among(session: Session, *, job_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the jobs, whoever's, that have ended or are gone."""
    return jobs.ended_among(session, job_ids=job_ids)


def kept_among(session: Session, found: Sequence[Job]) -> set[UUID]:
    """Those of the jobs that have ended and will stay: for an adapter, a model update, or a word on a picture."""
    ended = [job.id for job in found if job.completed_at is not None]
    return jobs.kept_among(session, job_ids=ended) if ended else set()


def shown_status(job: Job) -> JobStatus:
    """The status a client sees."""
    status = JobStatus(job.status)
    return JobStatus.CANCELING if status is JobStatus.RUNNING and job.cancel_requested else status


def outlook(session: Session, job: Job) -> Outlook:
    """Where a job stands in line; nothing to expect once it runs."""
    if job.status != JobStatus.QUEUED:
        return Outlook(None, None)
    worker = WORKER_OF_KIND[JobKind(job.kind)]
    position, seconds = jobs.ahead(session, job, kinds=KINDS_OF_WORKER[worker])
    slots = workers.live_slots(session, kind=worker, seen_within_seconds=ALIVE_SECONDS)
    left = None if job.deadline_at is None else job.deadline_at - datetime.now(UTC)
    return _in_time(_expect(position, seconds, slots), job.cost_seconds, left=left)


def _expect(jobs_ahead: int, seconds: float, slots: int) -> Outlook:
    # Where jobs wait the slots are full, and what a job costs was measured beside others that shared its device.
    return Outlook(jobs_ahead, round(seconds / slots, 1) if slots else None)


def _in_time(expected: Outlook, cost: float, *, left: timedelta | None) -> Outlook:
    """The outlook, with a warning where a job of this cost in seconds will hardly be done in the time that is left."""
    wait = expected.estimated_wait_seconds
    if left is None or wait is None or wait + cost <= left.total_seconds():
        return expected
    warning = (
        f"About {wait:.0f} s of waiting and {cost:.0f} s of work are ahead, and Cancel-After leaves "
        f"{max(left.total_seconds(), 0):.0f} s: the job will probably expire."
    )
    return replace(expected, warnings=(warning,))
