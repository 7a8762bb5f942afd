"""How an update ends: its job's verdict is carried out, a person's word, or whatever became of its job."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterStage
from core.domain.evaluation import Decision
from core.domain.job import JobStatus
from core.domain.model_update import AT_WORK, ModelUpdateStatus
from core.domain.outcome import Outcome
from core.domain.policy import UpdatePolicy
from core.infra.repository import lock
from core.infra.repository import model_update as updates
from core.infra.table import Adapter, Job, ModelUpdate
from core.services import rollout as rollouts
from core.services.transition import begin_adapter, move_adapter, move_update


def settle(session: Session, *, job_id: UUID, adapter: Adapter, outcome: Outcome) -> None:
    """Keep what an update found, and carry out its verdict on the new adapter, in the transaction that ends its job."""
    update, verdict = _of_job(session, job_id), outcome.verdict
    assert verdict is not None
    adapter.model_update_id = update.id
    begin_adapter(session, adapter, actor="worker", reason="Trained by a model update.")
    update.report = outcome.report.model_dump(mode="json") if outcome.report else None
    update.verdict = verdict.model_dump(mode="json")
    reason = " ".join(verdict.reasons)
    if update.status not in AT_WORK:
        move_adapter(session, adapter, AdapterStage.REJECTED, actor="worker", reason=f"Its update was {update.status}.")
    elif update.taken_back_at is not None:
        taken_back = "Feedback that it was trained on was withdrawn."
        turn_down(session, update, adapter, to=ModelUpdateStatus.CANCELED, actor="withdrawal", reason=taken_back)
    elif verdict.decision is Decision.REJECT:
        turn_down(session, update, adapter, to=ModelUpdateStatus.REJECTED, actor="worker", reason=reason)
    elif verdict.decision is Decision.NEEDS_APPROVAL:
        hours = UpdatePolicy.model_validate(update.policy).approval_hours
        update.decide_by = func.now() + timedelta(hours=hours)
        move_update(session, update, ModelUpdateStatus.AWAITING_APPROVAL, actor="worker", reason=reason)
    else:
        is_tried = verdict.decision is Decision.CANARY
        let_in(session, update, adapter, is_tried=is_tried, actor="worker", reason=reason)


def _of_job(session: Session, job_id: UUID) -> ModelUpdate:
    """The update of a job, locked; nobody else decides about its model until the transaction ends."""
    update = updates.by_job(session, job_id=job_id)
    assert update is not None
    take_pair(session, update)
    session.refresh(update, with_for_update=True)
    return update


def take_pair(session: Session, update: ModelUpdate) -> None:
    """Be alone in deciding about a tenant's adapters of a base model until the transaction ends."""
    lock.take(session, "learning", update.tenant_id, update.stable_diffusion_id)


def let_in(session: Session, update: ModelUpdate, adapter: Adapter, *, is_tried: bool, actor: str, reason: str) -> None:
    """Let a candidate serve: a share of the requests where it is tried first, else all. Moves the update along."""
    policy = UpdatePolicy.model_validate(update.policy).rollout
    if is_tried:
        rollouts.start_canary(session, adapter=adapter, update=update, policy=policy, actor=actor, reason=reason)
    else:
        rollouts.promote(session, adapter=adapter, actor=actor, reason=reason, policy=policy, update=update)


def turn_down(
    session: Session, update: ModelUpdate, adapter: Adapter | None, *, to: ModelUpdateStatus, actor: str, reason: str
) -> None:
    """End an update whose candidate will not serve."""
    if adapter is not None and adapter.stage == AdapterStage.CANDIDATE:
        move_adapter(session, adapter, AdapterStage.REJECTED, actor=actor, reason=reason, update=update)
    move_update(session, update, to, actor=actor, reason=reason)


def reconcile(session: Session) -> int:
    """End updates whose job ended without a verdict, or that nobody approved in time; how many.

    Run on a clock: whatever ended the job, a poison pill or a passed deadline, the next update can start.
    """
    abandoned = updates.at_work_without_a_job(session)
    for update, job in abandoned:
        to, reason = _ending(job)
        move_update(session, update, to, actor="clock", reason=reason)
    late = updates.unapproved_in_time(session)
    for update in late:
        adapter = updates.adapter_of(session, update_id=update.id, for_update=True)
        reason = f"Nobody approved it until {update.decide_by:%Y-%m-%d %H:%M} UTC."
        turn_down(session, update, adapter, to=ModelUpdateStatus.REJECTED, actor="clock", reason=reason)
    return len(abandoned) + len(late)


def _ending(job: Job) -> tuple[ModelUpdateStatus, str]:
    if job.status == JobStatus.CANCELED:
        return ModelUpdateStatus.CANCELED, "Its job was canceled."
    return ModelUpdateStatus.FAILED, job.error_message or f"Its job ended as {job.status} without a verdict."
