"""Model updates: start one when the policy says so or when asked, read, approve, reject, cancel."""

from collections.abc import Sequence
from typing import Any, TypedDict
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.errors import Conflict, NotFound, Refused
from core.domain.model_update import AT_WORK, ModelUpdateStatus, UpdateTrigger
from core.domain.policy import PolicyDecision, Standing, UpdatePolicy, decide
from core.infra.repository import lock
from core.infra.repository import model_update as updates
from core.infra.repository import policy as policy_rows
from core.infra.settings import Settings
from core.infra.table import Adapter, ModelUpdate, StableDiffusion, Transition
from core.infra.task_queue import TaskQueue
from core.services import job as jobs
from core.services import model as models
from core.services import policy as policies
from core.services import rollout as rollouts
from core.services.settlement import let_in, take_pair, turn_down
from core.services.terms import Terms
from core.services.training import cannot_learn
from core.services.update_planning import Cause, TooLittle, plan

_SELECT_AGAIN_SECONDS = 600.0
"""After so long the rules are applied again even where hardly anything was said since."""


class _Pair(TypedDict):
    tenant_id: UUID
    model_id: UUID


def consider(
    session: Session, *, tenant_id: UUID, model_id: UUID, queue: TaskQueue, settings: Settings
) -> ModelUpdate | None:
    """Start an update if the policy finds it due; what the look found is kept.

    Cheap where nothing is due, so it is called after every feedback; and on a clock, so that nothing is missed when
    two commit at once.
    """
    pair = _Pair(tenant_id=tenant_id, model_id=model_id)
    policy = policies.get(session, **pair, default=settings.update_policy)
    now = policies.standing(session, **pair, with_volume=False)
    decision = decide(policy, now)
    if not decision.due:
        policies.note(session, decision, now, **pair)
        return None
    if not lock.try_take(session, "learning", tenant_id, model_id):
        return None  # somebody decides about this model at this moment, and the clock looks again
    now = policies.standing(session, **pair, with_volume=False)
    decision = decide(policy, now)
    model = models.get(session, tenant_id=tenant_id, model_id=model_id)
    if not decision.due or _is_too_early(session, now, **pair):
        return None
    if reason := cannot_learn(model):
        policies.note(session, PolicyDecision(due=False, waiting_for=(reason,)), now, **pair)
        return None
    cause = Cause(
        trigger=UpdateTrigger.POLICY,
        actor="policy",
        sentence=decision.because,
        reason={"standing": now.model_dump(mode="json")},
    )
    # What is due waits for no room in the queue, but for the day's GPU seconds: its tenant decides how often it is due.
    try:
        terms = Terms(tenant_id=tenant_id)
        started = plan(session, model, policy, cause, terms=terms, queue=queue, limits=settings.quota)
    except Refused as refusal:
        policies.note(session, PolicyDecision(due=False, waiting_for=(refusal.message,)), now, **pair)
        return None
    if isinstance(started, TooLittle):
        short = PolicyDecision(due=False, waiting_for=(started.sentence,))
        policies.note(session, short, now, **pair, selected=_remember(policy, started, now))
        return None
    policies.note(session, decision, now, **pair)
    return started


def _remember(policy: UpdatePolicy, found: TooLittle, now: Standing) -> dict[str, Any]:
    """What a selection in vain found, and at how many new labels another one is worth its time."""
    gap = min(policy.min_pairs - found.pairs, policy.min_likes - found.likes)
    return {
        "missing": found.sentence,
        "pairs": found.pairs,
        "likes": found.likes,
        "again_at": now.new_labels + max(1, gap // 2),
    }


def _is_too_early(session: Session, now: Standing, *, tenant_id: UUID, model_id: UUID) -> bool:
    pair = _Pair(tenant_id=tenant_id, model_id=model_id)
    selected = policies.selected_lately(session, **pair)
    if selected is None or now.new_labels >= selected["again_at"]:
        return False
    return policy_rows.was_noted_within(session, **pair, seconds=_SELECT_AGAIN_SECONDS)


def pairs_to_consider(session: Session) -> Sequence[tuple[UUID, UUID]]:
    """(tenant, base model) wherever feedback waits to be counted."""
    return policy_rows.pairs_with_new_labels(session)


def trigger(
    session: Session, *, tenant_id: UUID, model_id: UUID, terms: Terms, queue: TaskQueue, settings: Settings
) -> ModelUpdate:
    """Start an update now, whatever the policy waits for, if there is enough to train on and none in flight.

    Raises:
        NotFound: no such base model, or another tenant's own.
        Conflict: the base model is not ready or of a family that is not trained, an update is in flight, or there is
            too little to train on.
        QueueFull, QuotaExceeded: a limit of the tenant forbids it.
        IdempotencyKeyReuse: the key came with another request.
    """
    lock.take(session, "learning", tenant_id, model_id)  # first: the same request may be under way beside this one
    if replay := terms.find_replay(session):
        return _of_job(session, replay.job.id)
    model = models.get(session, tenant_id=tenant_id, model_id=model_id)
    if reason := cannot_learn(model):
        raise Conflict(f"No update can start: {reason}.")
    policy = policies.get(session, tenant_id=tenant_id, model_id=model_id, default=settings.update_policy)
    now = policies.standing(session, tenant_id=tenant_id, model_id=model_id)
    decision = decide(policy, now, by_hand=True)
    if not decision.due:
        raise Conflict(f"No update can start now: {'; '.join(decision.waiting_for)}.")
    cause = Cause(
        trigger=UpdateTrigger.HAND,
        actor="person",
        sentence=decision.because,
        reason={"standing": now.model_dump(mode="json")},
    )
    started = plan(session, model, policy, cause, terms=terms, queue=queue, limits=settings.limits)
    if isinstance(started, TooLittle):
        raise Conflict(f"No update can start now: {started.sentence}.")
    return started


def _of_job(session: Session, job_id: UUID) -> ModelUpdate:
    update = updates.by_job(session, job_id=job_id)
    if update is None:
        raise NotFound(f"The job {job_id} is no model update's.")
    return update


def find_model(session: Session, *, tenant_id: UUID, named: str | None, settings: Settings) -> StableDiffusion:
    """The base model that a request means, by its id or its name, or by saying nothing.

    Raises:
        InvalidInput: there is no such model.
        Conflict: it is not ready.
    """
    try:
        model_id = UUID(named or "")
    except ValueError:
        return models.usable(session, tenant_id=tenant_id, name=named or settings.default_model)
    return models.get(session, tenant_id=tenant_id, model_id=model_id)


def get(session: Session, *, tenant_id: UUID, update_id: UUID) -> ModelUpdate:
    """A tenant's update.

    Raises:
        NotFound: no such update, or another tenant's.
    """
    return _own(session, tenant_id, update_id, for_update=False)


def _own(session: Session, tenant_id: UUID, update_id: UUID, *, for_update: bool) -> ModelUpdate:
    update = updates.by_id(session, tenant_id=tenant_id, update_id=update_id, for_update=for_update)
    if update is None:
        raise NotFound(f"There is no model update {update_id}.")
    return update


def list_page(
    session: Session, *, tenant_id: UUID, model_id: UUID | None, limit: int, cursor: str | None
) -> tuple[Sequence[ModelUpdate], str | None]:
    """A tenant's updates, newest first, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    return updates.page(session, tenant_id=tenant_id, model_id=model_id, limit=limit, cursor=cursor)


def adapter_of(session: Session, update: ModelUpdate) -> Adapter | None:
    """What the update made, if it came to that."""
    return updates.adapter_of(session, update_id=update.id)


def transitions_of(session: Session, update: ModelUpdate) -> Sequence[Transition]:
    """Every status of the update and stage of its adapter, with reasons, oldest first."""
    return updates.transitions_of(session, update_id=update.id)


def approve(session: Session, *, tenant_id: UUID, update_id: UUID, reason: str | None = None) -> ModelUpdate:
    """Let a candidate that waits for a person serve: tried first where its policy gives a canary a share.

    Raises:
        NotFound: no such update, or another tenant's.
        Conflict: it does not wait for approval, its feedback was withdrawn, or its adapter was deleted.
    """
    update = _held(session, tenant_id, update_id)
    if update.status != ModelUpdateStatus.AWAITING_APPROVAL:
        raise Conflict(f"The update is {update.status}; only one that is awaiting_approval can be approved.")
    if update.taken_back_at is not None:
        raise Conflict("Feedback that it was trained on was withdrawn; an update without it follows.")
    adapter = updates.adapter_of(session, update_id=update.id, for_update=True)
    if adapter is None:
        raise Conflict("Its adapter was deleted; reject the update.")
    is_tried = UpdatePolicy.model_validate(update.policy).rollout.canary_share > 0
    let_in(session, update, adapter, is_tried=is_tried, actor="person", reason=reason or "A person approved it.")
    return update


def reject(session: Session, *, tenant_id: UUID, update_id: UUID, reason: str | None = None) -> ModelUpdate:
    """Turn a candidate down that waits for a person, or that is tried as a canary.

    Raises:
        NotFound: no such update, or another tenant's.
        Conflict: it is neither.
    """
    update = _held(session, tenant_id, update_id)
    _stop(session, update, to=ModelUpdateStatus.REJECTED, reason=reason or "A person rejected it.")
    return update


def cancel(session: Session, *, tenant_id: UUID, update_id: UUID, reason: str | None = None) -> ModelUpdate:
    """End an update that is in flight: its job is canceled, its candidate or canary is taken away.

    An update whose job runs is canceled as soon as its worker lets go. One that has ended stays as it is.

    Raises:
        NotFound: no such update, or another tenant's.
    """
    update = get(session, tenant_id=tenant_id, update_id=update_id)
    reason = reason or "A person canceled it."
    if update.status in AT_WORK and update.job_id is not None:
        job = jobs.cancel(
            session, tenant_id=tenant_id, job_id=update.job_id
        )  # before the pair's lock, as a worker does
        if job.completed_at is None:
            return update
    update = _held(session, tenant_id, update_id)
    if update.status in AT_WORK:
        turn_down(session, update, None, to=ModelUpdateStatus.CANCELED, actor="person", reason=reason)
    elif update.completed_at is None:
        _stop(session, update, to=ModelUpdateStatus.CANCELED, reason=reason)
    return update


def _held(session: Session, tenant_id: UUID, update_id: UUID) -> ModelUpdate:
    take_pair(session, get(session, tenant_id=tenant_id, update_id=update_id))
    return _own(session, tenant_id, update_id, for_update=True)


def _stop(session: Session, update: ModelUpdate, *, to: ModelUpdateStatus, reason: str) -> None:
    adapter = updates.adapter_of(session, update_id=update.id, for_update=True)
    if update.status == ModelUpdateStatus.AWAITING_APPROVAL:
        turn_down(session, update, adapter, to=to, actor="person", reason=reason)
    elif update.status == ModelUpdateStatus.CANARY and adapter is not None:
        rollouts.roll_back(session, adapter=adapter, actor="person", reason=reason, update_ends=to)
    else:
        raise Conflict(f"The update is {update.status}; only a candidate or a canary can be rejected.")
