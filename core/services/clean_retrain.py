"""Make updates again without the feedback that was withdrawn from them, and take out of service what holds it."""

from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.adapter import AdapterStage
from core.domain.base_model import ModelStatus
from core.domain.errors import Refused
from core.domain.limit import Limits
from core.domain.model_update import AT_WORK, IN_FLIGHT, ModelUpdateStatus, UpdateTrigger
from core.domain.policy import UpdatePolicy
from core.infra.repository import lock
from core.infra.repository import model_update as updates
from core.infra.repository import withdrawal as withdrawals
from core.infra.settings import Settings
from core.infra.table import Adapter, ModelUpdate, StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import rollout as rollouts
from core.services.settlement import turn_down
from core.services.terms import Terms
from core.services.update_planning import Cause, TooLittle, plan

_ACTOR = "withdrawal"
_WITHDRAWN = "Feedback that it was trained on was withdrawn."


def awaited(session: Session) -> list[UUID]:
    """Updates that hold withdrawn feedback and still have to be replaced; the longest waiting first."""
    return list(updates.to_be_cleaned(session))


def retrain_clean(session: Session, *, update_id: UUID, queue: TaskQueue, settings: Settings) -> None:
    """One step further for an update that holds withdrawn feedback. Run on a clock, in a transaction for each.

    First what is in flight of it ends; then the update is made again from what it looked at, without what was
    withdrawn, by the same recipe and seed, once the day's GPU seconds allow it. Where that cannot be, or has not
    happened in time, the champion gives way to one without withdrawn feedback, or to the base model. `clean_by` of an
    update that is done with is emptied.
    """
    update = session.get_one(ModelUpdate, update_id)
    if lock.try_take(session, "learning", update.tenant_id, update.stable_diffusion_id):
        session.refresh(update, with_for_update=True)
        if update.clean_by is not None and _has_stopped(session, update):
            _advance(session, update, is_late=updates.is_late(session, update), queue=queue, limits=settings.quota)


def _advance(session: Session, update: ModelUpdate, *, is_late: bool, queue: TaskQueue, limits: Limits) -> None:
    adapter = updates.adapter_of(session, update_id=update.id, for_update=True)
    champion = adapter if adapter is not None and adapter.stage == AdapterStage.CHAMPION else None
    last = _last_replacement(session, update)
    is_replaced = last is not None and (champion is None or last.status == ModelUpdateStatus.PROMOTED)
    if is_replaced or (champion is None and update.status == ModelUpdateStatus.PROMOTED):
        update.clean_by = None
    elif last is not None and last.status not in IN_FLIGHT and last.taken_back_at is None:
        _take_out(
            session, update, champion, f"{_WITHDRAWN} The update without it was {last.status}: {last.outcome_reason}"
        )
    elif is_late:
        _take_out(session, update, champion, f"{_WITHDRAWN} Nothing without it has replaced it in time.")
    elif last is None:
        _replace(session, update, champion, queue=queue, limits=limits)


def _has_stopped(session: Session, update: ModelUpdate) -> bool:
    """End what is in flight; whether it has ended, which takes a worker's word where a job runs."""
    if update.status in AT_WORK:
        if update.job_id is not None:
            withdrawals.cancel_if_free(session, tenant_id=update.tenant_id, job_id=update.job_id)
        return False
    adapter = updates.adapter_of(session, update_id=update.id, for_update=True)
    if update.status == ModelUpdateStatus.AWAITING_APPROVAL:
        turn_down(session, update, adapter, to=ModelUpdateStatus.CANCELED, actor=_ACTOR, reason=_WITHDRAWN)
    elif adapter is not None and adapter.stage == AdapterStage.CANARY:
        rollouts.roll_back(session, adapter=adapter, actor=_ACTOR, reason=_WITHDRAWN)
    return True


def _last_replacement(session: Session, update: ModelUpdate) -> ModelUpdate | None:
    """The end of the chain of updates that were started in place of this one; a replacement may be replaced too."""
    last, next_one = None, updates.replacement_of(session, update_id=update.id)
    while next_one is not None:
        last, next_one = next_one, updates.replacement_of(session, update_id=next_one.id)
    return last


def _replace(
    session: Session, update: ModelUpdate, champion: Adapter | None, *, queue: TaskQueue, limits: Limits
) -> None:
    model = session.get_one(StableDiffusion, update.stable_diffusion_id)
    is_busy = updates.in_flight(session, tenant_id=update.tenant_id, model_id=model.id) is not None
    if is_busy or model.status != ModelStatus.READY:
        return  # the clock comes again
    cause = Cause(
        trigger=UpdateTrigger.WITHDRAWAL,
        actor=_ACTOR,
        sentence="Feedback of the update that it replaces was withdrawn.",
        replaces=update,
        among=updates.looked_at(session, update_id=update.id),
        is_clean_retrain=champion is not None or _stands_for_a_champion(session, update),
    )
    policy = UpdatePolicy.model_validate(update.policy)
    terms = Terms(tenant_id=update.tenant_id)
    try:
        started = plan(session, model, policy, cause, terms=terms, queue=queue, limits=limits)
    except Refused:
        return  # so it does here, until it is late: whoever takes words back one by one starts no training for each
    if isinstance(started, TooLittle):
        _take_out(
            session, update, champion, f"{_WITHDRAWN} Too little is left to train without it: {started.sentence}."
        )


def _stands_for_a_champion(session: Session, update: ModelUpdate) -> bool:
    """Whether it was itself to replace a champion that still serves."""
    before: UUID | None = update.replaces_update_id
    while before is not None:
        adapter = updates.adapter_of(session, update_id=before)
        if adapter is not None and adapter.stage == AdapterStage.CHAMPION:
            return True
        before = session.get_one(ModelUpdate, before).replaces_update_id
    return False


def _take_out(session: Session, update: ModelUpdate, champion: Adapter | None, reason: str) -> None:
    """Nothing will replace it: if it serves, it serves no longer."""
    if champion is not None:
        rollouts.roll_back(session, adapter=champion, actor=_ACTOR, reason=reason)
    update.clean_by = None
    session.flush()
