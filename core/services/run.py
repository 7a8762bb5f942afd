"""What a worker does with a job it holds: claim, heartbeat, finish, fail, give back. Every write is fenced."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterManifest
from core.domain.base_model import LoadOptions, ModelFacts, ModelHandle, ModelStatus
from core.domain.errors import LorikeetError, ModelUnusable, OwnershipLost
from core.domain.holding import NOTHING, Holding
from core.domain.job import (
    MAX_ATTEMPTS,
    MAX_CRASHES,
    SUSPECT_CRASHES,
    TERMINAL,
    WORKER_OF_KIND,
    JobKind,
    JobStatus,
    Progress,
    WorkerKind,
    retry_delay,
)
from core.domain.outcome import Outcome, Output
from core.infra.repository import job as jobs
from core.infra.repository import lease as leases
from core.infra.repository import limit as limits
from core.infra.repository import presence
from core.infra.repository import worker as workers
from core.infra.table import Adapter, Artifact, Job, StableDiffusion, WorkerPresence
from core.services.settlement import settle


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job as the worker that holds it sees it. `claim_epoch` fences everything the worker writes."""

    job_id: UUID
    claim_epoch: int
    kind: JobKind
    tenant_id: UUID
    plan: dict[str, Any]
    model: ModelHandle
    dataset_id: UUID | None
    is_suspect: bool = False


def claim_next(
    session: Session,
    *,
    kinds: Sequence[JobKind],
    worker_id: str,
    lease_seconds: float,
    held: Collection[UUID] = (),
    affinity_seconds: float = 0.0,
    takes_suspects: bool = True,
) -> Claim | None:
    """Take a job, if there is one; two workers never get the same one.

    It is the first in line, or, while that has waited for less than `affinity_seconds`, the first whose base model the
    worker has `held` in memory. A suspect, whose workers died `SUSPECT_CRASHES` times, goes only to a worker that has
    nothing else and takes nothing beside it: if it kills once more, it was no neighbour's fault, and no neighbour's
    loss. Where it is the first in line, others do not pass it: a busy worker gets nothing then.
    """
    claimed = leases.claim_next(
        session,
        kinds=kinds,
        worker_id=worker_id,
        lease_seconds=lease_seconds,
        held=held,
        affinity_seconds=affinity_seconds,
        most_crashes=MAX_CRASHES if takes_suspects else SUSPECT_CRASHES - 1,
    )
    if claimed is None:
        return None
    job, model = claimed
    return Claim(
        job_id=job.id,
        claim_epoch=job.claim_epoch,
        kind=JobKind(job.kind),
        tenant_id=job.tenant_id,
        plan=job.plan,
        model=_handle(model),
        dataset_id=job.dataset_id,
        is_suspect=job.crash_count >= SUSPECT_CRASHES,
    )


def _handle(model: StableDiffusion) -> ModelHandle:
    options = LoadOptions.model_validate(model.options)
    return ModelHandle(model.id, model.name, model.source, model.revision, options, model.shared)


class Pulse(StrEnum):
    """What became of a claim at a heartbeat."""

    KEPT = "kept"
    CANCELED = "canceled"  # kept, and its owner wants it to stop
    LOST = "lost"
    UNKNOWN = "unknown"  # another transaction holds the row: not renewed, and not lost either


def heartbeat(session: Session, beats: Sequence[tuple[Claim, Progress | None]], *, lease_seconds: float) -> list[Pulse]:
    """Keep the leases of claims by one statement, and write progress where there is some; what became of each."""
    held = [(claim.job_id, claim.claim_epoch, progress) for claim, progress in beats]
    renewed = leases.renew(session, held=held, lease_seconds=lease_seconds)
    missed = [job_id for job_id, epoch, _ in held if (job_id, epoch) not in renewed]
    running = leases.running_epochs(session, job_ids=missed) if missed else set()

    def pulse_of(job_id: UUID, epoch: int) -> Pulse:
        if (job_id, epoch) in renewed:
            return Pulse.CANCELED if renewed[job_id, epoch] else Pulse.KEPT
        return Pulse.UNKNOWN if (job_id, epoch) in running else Pulse.LOST

    return [pulse_of(job_id, epoch) for job_id, epoch, _ in held]


def finish(session: Session, claim: Claim, outcome: Outcome) -> None:
    """Commit the results: the fence first, then what became true.

    Raises:
        OwnershipLost: the claim is no longer ours; nothing is written.
    """
    values = {
        "warnings": outcome.warnings,
        "progress_step": Job.progress_steps,
        "error_code": None,
        "error_message": None,
    }
    work_units, seconds = _end(session, claim, JobStatus.SUCCEEDED, values)
    for position, output in enumerate(outcome.outputs):
        session.add(_artifact(claim, position, output))
    if outcome.adapter is not None:
        adapter = _adapter(claim, outcome.adapter, outcome.outputs)
        if claim.kind is JobKind.MODEL_UPDATE:
            settle(session, job_id=claim.job_id, adapter=adapter, outcome=outcome)
        session.add(adapter)
    if outcome.model_facts is not None:
        _mark_ready(session.get_one(StableDiffusion, claim.model.id), outcome.model_facts)
    if work_units > 0 and seconds:
        rate = seconds / work_units
        jobs.record_rate(session, base_model_id=claim.model.id, kind=claim.kind, seconds_per_unit=rate)


def _end(session: Session, claim: Claim, status: JobStatus, values: dict[str, Any]) -> tuple[float, float | None]:
    ended = leases.end_run(session, job_id=claim.job_id, claim_epoch=claim.claim_epoch, status=status, values=values)
    if ended is None:
        raise OwnershipLost
    limits.add_usage(session, job_id=claim.job_id, worker=WORKER_OF_KIND[claim.kind])
    return ended


def _artifact(claim: Claim, position: int, output: Output) -> Artifact:
    return Artifact(
        tenant_id=claim.tenant_id,
        job_id=claim.job_id,
        claim_epoch=claim.claim_epoch,
        position=position,
        **vars(output),
    )


def _adapter(claim: Claim, manifest: AdapterManifest, outputs: Sequence[Output]) -> Adapter:
    key_of = {output.type: output.object_key for output in outputs}
    return Adapter(
        tenant_id=claim.tenant_id,
        base_model_id=claim.model.id,
        job_id=claim.job_id,
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        rank=manifest.rank,
        alpha=manifest.alpha,
        object_key=key_of["adapter"],
        kohya_object_key=key_of.get("adapter_kohya"),
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        manifest=manifest.model_dump(mode="json"),
    )


def _mark_ready(model: StableDiffusion, facts: ModelFacts) -> None:
    model.status, model.status_reason = ModelStatus.READY, None
    model.family = facts.family
    model.defaults = facts.defaults.model_dump(mode="json") | model.defaults
    model.modules = {name: list(shape) for name, shape in facts.modules.items()}


def fail(session: Session, claim: Claim, error: LorikeetError) -> None:
    """End the job as failed, for a reason its owner can read; what tells of a model is for the model's owner.

    Raises:
        OwnershipLost: the claim is no longer ours.
    """
    model = session.get_one(StableDiffusion, claim.model.id)
    is_told = model.tenant_id == claim.tenant_id or not isinstance(error, ModelUnusable)
    message = error.message if is_told else f"The base model {model.name} cannot be loaded; who offers it can see why."
    _end(session, claim, JobStatus.FAILED, {"error_code": error.code, "error_message": message})
    if claim.kind is JobKind.REGISTRATION:
        model.status, model.status_reason = ModelStatus.FAILED, error.message


def fail_unexpectedly(session: Session, claim: Claim, error: Exception) -> None:
    """Try the job again after an error nobody foresaw, up to MAX_ATTEMPTS times.

    Raises:
        OwnershipLost: the claim is no longer ours.
    """
    job = session.get_one(Job, claim.job_id)
    attempt = job.attempt + 1
    if attempt >= MAX_ATTEMPTS:
        fail(session, claim, LorikeetError(f"The job failed {attempt} times, last with {type(error).__name__}."))
        return
    values = {"attempt": attempt, "run_after": func.now() + retry_delay(attempt), "rung_at": None}
    _end(session, claim, JobStatus.QUEUED, values)


def mark_canceled(session: Session, claim: Claim) -> None:
    """End the job as its owner asked.

    Raises:
        OwnershipLost: the claim is no longer ours.
    """
    _end(session, claim, JobStatus.CANCELED, {})


def give_back(session: Session, claim: Claim, *, delay: timedelta) -> None:
    """Put the job back in line, at no cost to it: the worker drains, or a system it needs is away.

    Raises:
        OwnershipLost: the claim is no longer ours.
    """
    values = {"interrupt_count": Job.interrupt_count + 1, "run_after": func.now() + delay, "rung_at": None}
    _end(session, claim, JobStatus.QUEUED, values)


def has_ended(session: Session, claim: Claim) -> bool:
    """After a commit whose answer was lost: whether this run's end was written."""
    standing = leases.standing(session, job_id=claim.job_id)
    return standing is not None and standing[0] == claim.claim_epoch and standing[1] in TERMINAL


def has_work(session: Session, *, kinds: Sequence[JobKind]) -> bool:
    """Whether a job of these kinds is ready to be claimed."""
    return jobs.has_ready(session, kinds=kinds)


def next_in_line(session: Session, *, kind: JobKind, limit: int) -> Sequence[tuple[ModelHandle, dict[str, Any]]]:
    """Base models and plans of the jobs whose turns come next, but for those that may be what kills workers."""
    return [(_handle(model), plan) for plan, model in jobs.first_in_line(session, kind=kind, limit=limit)]


def say_alive(session: Session, *, worker_id: str, kind: WorkerKind, slots: int, holds: Holding = NOTHING) -> None:
    """Let upkeep and the API know that this worker lives, and what it has in memory."""
    workers.say_alive(session, worker_id=worker_id, kind=kind, slots=slots, holds=holds)


def lives_on(session: Session, *, host: str, seen_within_seconds: float = 30.0) -> bool:
    """Whether a worker process of that host said lately that it lives."""
    return presence.lives_on(session, WorkerPresence, host=host, seen_within_seconds=seen_within_seconds)


def say_gone(session: Session, *, worker_id: str) -> None:
    """The worker ends on purpose."""
    presence.say_gone(session, WorkerPresence, process_id=worker_id)


def declare_dead(session: Session, *, worker_id: str) -> None:
    """The worker is known to have died: its jobs need not wait for their leases to run out."""
    leases.expire_leases_of(session, worker_id=worker_id)
