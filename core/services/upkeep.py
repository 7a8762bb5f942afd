"""The clockwork's verbs: take back what was dropped, ring for what waits, remove what is old. Any number may run."""

from datetime import timedelta

import structlog
from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.base_model import ModelStatus
from core.domain.job import (
    ALIVE_SECONDS,
    KINDS_OF_WORKER,
    MAX_CRASHES,
    POISONED,
    WORKER_OF_KIND,
    JobKind,
    JobStatus,
    WorkerKind,
    retry_delay,
)
from core.domain.object_key import dataset_prefix, job_prefix
from core.domain.retention import Retention
from core.infra.database import after_commit
from core.infra.object_store import ObjectStore
from core.infra.repository import adapter as adapters
from core.infra.repository import dataset as datasets
from core.infra.repository import job as jobs
from core.infra.repository import limit as limits
from core.infra.repository import model_update as updates
from core.infra.repository import presence
from core.infra.repository import upkeep as upkeeps
from core.infra.repository import withdrawal as withdrawals
from core.infra.repository import worker as workers
from core.infra.table import Job, StableDiffusion, UpkeepPresence, WorkerPresence
from core.infra.task_queue import TaskQueue
from core.services.removal import delete_after_commit, delete_all

_log = structlog.get_logger()
_BATCH, _OLD_BATCH = 200, 1000


def say_alive(session: Session, *, upkeep_id: str) -> None:
    """Let operators know that this upkeep got through a round."""
    upkeeps.say_alive(session, upkeep_id=upkeep_id)


def say_gone(session: Session, *, upkeep_id: str) -> None:
    """The upkeep ends on purpose."""
    presence.say_gone(session, UpkeepPresence, process_id=upkeep_id)


def lives_on(session: Session, *, host: str) -> bool:
    """Whether an upkeep of that host got through a round lately."""
    return presence.lives_on(session, UpkeepPresence, host=host, seen_within_seconds=ALIVE_SECONDS)


def sweep(session: Session, *, stall_seconds: float) -> int:
    """End or requeue jobs whose deadline passed, whose lease ran out, or whose progress stalled; how many."""
    found = jobs.overdue(session, stall_seconds=stall_seconds, limit=_BATCH)
    # Every sweep takes the rows of tenants' accounts in one order, or two of them could wait for each other.
    for job, is_late, _ in sorted(found, key=lambda each: (each[0].tenant_id, WORKER_OF_KIND[JobKind(each[0].kind)])):
        if job.status == JobStatus.RUNNING:
            limits.add_usage(session, job_id=job.id, worker=WORKER_OF_KIND[JobKind(job.kind)])
        if is_late:
            _end(job, JobStatus.EXPIRED, "deadline_passed", "The job's deadline passed before it was done.")
        elif job.cancel_requested:
            _end(job, JobStatus.CANCELED)
        else:
            _take_back(session, job)
        _log.info("swept", job_id=str(job.id), status=job.status, code=job.error_code, crash_count=job.crash_count)
    return len(found)


def _end(job: Job, status: JobStatus, code: str | None = None, message: str | None = None) -> None:
    job.status, job.error_code, job.error_message = status, code, message
    job.lease_expires_at = job.worker_id = None
    job.completed_at = func.now()


def _take_back(session: Session, job: Job) -> None:
    job.crash_count += 1
    if job.crash_count >= MAX_CRASHES:
        message = f"Its worker died or hung {job.crash_count} times, so the job is taken for the cause."
        _end(job, JobStatus.FAILED, POISONED, message)
        if job.kind == JobKind.REGISTRATION:
            model = session.get_one(StableDiffusion, job.base_model_id)
            model.status, model.status_reason = ModelStatus.FAILED, message
        return
    job.status = JobStatus.QUEUED
    job.lease_expires_at = job.worker_id = job.rung_at = None
    job.run_after = func.now() + retry_delay(job.crash_count)


def ring_waiting(session: Session, *, queue: TaskQueue, ring_seconds: float) -> int:
    """Ring again for ready jobs whose doorbell may be lost, up to twice the live slots of unheard ones; how many.

    A doorbell means no certain job, so those that hang there will do: with more, Redis would fill up.
    """
    rung = 0
    for worker, kinds in KINDS_OF_WORKER.items():
        rung += _ring_for(session, worker, kinds, queue=queue, ring_seconds=ring_seconds)
    return rung


def _ring_for(
    session: Session, worker: WorkerKind, kinds: tuple[JobKind, ...], *, queue: TaskQueue, ring_seconds: float
) -> int:
    slots = workers.live_slots(session, kind=worker, seen_within_seconds=ALIVE_SECONDS)
    unheard = queue.unheard(kinds)
    room = 0 if unheard is None else 2 * slots - unheard
    taken = jobs.take_unrung(session, kinds=kinds, ring_seconds=ring_seconds, limit=room) if room > 0 else []

    def ring() -> None:
        for kind, job_id in taken:
            queue.ring(kind, job_id)

    after_commit(session, ring)
    return len(taken)


def forget(session: Session) -> None:
    """Drop what nobody needs: idempotency keys after a day, processes not seen for an hour, usage after five weeks."""
    jobs.forget_idempotency_keys(session, older_than=timedelta(hours=24))
    for of in (WorkerPresence, UpkeepPresence):
        presence.forget_gone(session, of, unseen_for_seconds=3600)
    limits.forget_usage(session)


def remove_old(session: Session, *, store: ObjectStore, retention: Retention) -> int:
    """Delete some of the finished jobs past their retention, and all their objects after the commit; how many.

    Rows go first: one that came to be needed meanwhile stays, and its files with it. What a crash between leaves in the
    store are orphans, and so is what a store leaves that is away then, which is `Unavailable`.
    """
    old = [
        job_id
        for kind in JobKind
        for job_id in jobs.old_terminal(session, kind=kind, older_than=retention.of(kind), limit=_OLD_BATCH)
    ]
    if old:
        store.check()  # else its files would be orphans
        withdrawals.remove_rows_of(session, job_ids=old)
        jobs.remove(session, job_ids=old)
        delete_after_commit(session, store, prefixes=[job_prefix(job_id=job_id) for job_id in old])
    return len(old)


def remove_abandoned(session: Session, *, store: ObjectStore, retention: Retention) -> int:
    """Delete some of the datasets that were never completed, and their uploads after the commit; how many."""
    old = datasets.abandoned(session, older_than=retention.of_open_dataset, limit=_BATCH)
    if old:
        store.check()
        for dataset_id in old:
            datasets.remove(session, dataset_id=dataset_id)
        delete_after_commit(session, store, prefixes=[dataset_prefix(dataset_id=dataset_id) for dataset_id in old])
    return len(old)


def erase_taken_back(session: Session, *, store: ObjectStore) -> int:
    """Delete the files of updates that hold withdrawn feedback, once they serve nobody; how many.

    Their rows stay, for the lineage of pictures that were drawn before.
    """
    erased = 0
    for update in withdrawals.erasable(session, limit=_BATCH):
        adapter = updates.adapter_of(session, update_id=update.id)
        if adapter is not None and adapters.is_in_use(session, adapter):
            continue
        if update.job_id is not None:
            delete_all(store, prefixes=[job_prefix(job_id=update.job_id)])
        update.erased_at = func.now()
        erased += 1
    return erased
