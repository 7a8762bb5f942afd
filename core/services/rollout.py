"""What serves: start a canary, promote, roll back. Each in the caller's one transaction, one at a time per model."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterStage
from core.domain.errors import Conflict, NotFound
from core.domain.model_update import IN_FLIGHT, ModelUpdateStatus
from core.domain.policy import RolloutPolicy
from core.domain.rollout import RolloutKind, RolloutOutcome
from core.domain.rollout_verdict import RolloutEvidence, Thumbs
from core.infra.repository import lock
from core.infra.repository import rollout as rollouts
from core.infra.table import Adapter, ModelUpdate, Rollout, Transition
from core.services.transition import move_adapter, move_update


def start_canary(
    session: Session,
    *,
    adapter: Adapter,
    update: ModelUpdate | None,
    policy: RolloutPolicy,
    actor: str,
    reason: str,
) -> Rollout | None:
    """Try an adapter on a share of the live requests; where the policy gives it none, promote it at once.

    Moves the update along. A rollout that runs gives way.
    """
    if policy.canary_share == 0:
        promote(session, adapter=adapter, actor=actor, reason=reason, policy=policy, update=update)
        return None
    _lock(session, adapter)
    _give_way(session, adapter, actor=actor)
    move_adapter(session, adapter, AdapterStage.CANARY, actor=actor, reason=reason, update=update)
    if update is not None:
        move_update(session, update, ModelUpdateStatus.CANARY, actor=actor, reason=reason)
    incumbent = rollouts.champion(session, tenant_id=adapter.tenant_id, model_id=adapter.base_model_id)
    return _begin(session, RolloutKind.CANARY, adapter, incumbent, policy, share=policy.canary_share, update=update)


def promote(
    session: Session,
    *,
    adapter: Adapter,
    actor: str,
    reason: str,
    policy: RolloutPolicy | None,
    update: ModelUpdate | None = None,
) -> None:
    """Make an adapter the champion of its base model; the one before it is retired, and watched against.

    Moves the adapter's update along where it is in flight. A rollout that runs ends: promoted where it was this
    adapter's canary, else superseded. Without a policy nothing is watched.

    Raises:
        Conflict: it is the champion already.
    """
    _lock(session, adapter)
    _hold(session, adapter)
    if adapter.stage == AdapterStage.CHAMPION:
        raise Conflict(f"{adapter.ref} is the champion already.")
    was_proved = _end_own_canary(session, adapter, RolloutOutcome.PROMOTED, reason=reason) and actor == "test"
    _give_way(session, adapter, actor=actor)
    previous = rollouts.champion(session, tenant_id=adapter.tenant_id, model_id=adapter.base_model_id)
    if previous is not None:
        took_over = f"{adapter.ref} took its place."
        move_adapter(session, previous, AdapterStage.RETIRED, actor=actor, reason=took_over)
    move_adapter(session, adapter, AdapterStage.CHAMPION, actor=actor, reason=reason, update=update)
    update = update or _update_of(session, adapter)
    _move_in_flight(session, update, ModelUpdateStatus.PROMOTED, actor=actor, reason=reason)
    if policy is not None and policy.watch_days > 0 and not is_taken_back(session, previous):
        share = policy.canary_share if was_proved else policy.watch_share
        _begin(session, RolloutKind.WATCH, adapter, previous, policy, share=share, update=update)


def promote_by_hand(session: Session, *, adapter: Adapter, reason: str | None, policy: RolloutPolicy) -> None:
    """Promote as a person asks.

    Raises:
        Conflict: it is the champion already, or was trained on feedback that has been withdrawn since.
    """
    if is_taken_back(session, adapter):
        raise Conflict(f"{adapter.ref} was trained on feedback that has been withdrawn since; it cannot serve again.")
    promote(session, adapter=adapter, actor="person", reason=reason or "promoted by hand", policy=policy)


def roll_back(
    session: Session,
    *,
    adapter: Adapter,
    actor: str,
    reason: str,
    to_base: bool = False,
    update_ends: ModelUpdateStatus = ModelUpdateStatus.REJECTED,
) -> Adapter | None:
    """Take a champion or a canary out of service; the champion that serves afterwards, None for the bare base.

    A champion gives way to the one before it that still exists and holds no withdrawn feedback; `to_base` to the bare
    base model. What was rolled back is rejected; `update_ends` is how the update ends that a canary came from.

    Raises:
        Conflict: it is neither champion nor canary.
    """
    _lock(session, adapter)
    _hold(session, adapter)
    if adapter.stage == AdapterStage.CANARY:
        _end_own_canary(session, adapter, RolloutOutcome.ABORTED, reason=reason)
        move_adapter(session, adapter, AdapterStage.REJECTED, actor=actor, reason=reason)
        update = _update_of(session, adapter)
        _move_in_flight(session, update, update_ends, actor=actor, reason=reason)
        return rollouts.champion(session, tenant_id=adapter.tenant_id, model_id=adapter.base_model_id)
    if adapter.stage != AdapterStage.CHAMPION:
        raise Conflict(f"{adapter.ref} is {adapter.stage}; only a champion or a canary can be rolled back.")
    running = rollouts.running(session, tenant_id=adapter.tenant_id, model_id=adapter.base_model_id)
    if running is not None and running.kind == RolloutKind.WATCH:
        _end(session, running, RolloutOutcome.ROLLED_BACK, reason=reason)
    elif running is not None:
        _supersede(session, running, actor=actor, reason=f"{adapter.ref}, its incumbent, was rolled back.")
    before = None if to_base else rollouts.earlier_champion(session, adapter)
    move_adapter(session, adapter, AdapterStage.REJECTED, actor=actor, reason=reason)
    if before is not None:
        took_over = f"{adapter.ref} was rolled back: {reason}"
        move_adapter(session, before, AdapterStage.CHAMPION, actor=actor, reason=took_over)
    return before


def keep(session: Session, rollout: Rollout, *, reason: str) -> None:
    """End a watch that found no fault."""
    _end(session, rollout, RolloutOutcome.KEPT, reason=reason)


def latest(session: Session, *, tenant_id: UUID, model_id: UUID) -> Rollout:
    """The rollout that runs on a base model, or else the last.

    Raises:
        NotFound: there has been none.
    """
    rollout = rollouts.latest(session, tenant_id=tenant_id, model_id=model_id)
    if rollout is None:
        raise NotFound("There has been no rollout of this base model.")
    return rollout


def transitions(
    session: Session, adapter: Adapter, *, limit: int = 20, cursor: str | None = None
) -> tuple[Sequence[Transition], str | None]:
    """What happened to an adapter, newest first, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    return rollouts.transitions(session, adapter, limit=limit, cursor=cursor)


def is_taken_back(session: Session, adapter: Adapter | None) -> bool:
    """Whether an adapter was trained on feedback that has been withdrawn since."""
    update = None if adapter is None else _update_of(session, adapter)
    return update is not None and update.taken_back_at is not None


def _lock(session: Session, adapter: Adapter) -> None:
    lock.take(session, "learning", adapter.tenant_id, adapter.base_model_id)


def _hold(session: Session, adapter: Adapter) -> None:
    """Read an adapter again, and keep others from moving it; requests that it serves need not wait."""
    session.refresh(adapter, with_for_update={"key_share": True})


def _update_of(session: Session, adapter: Adapter) -> ModelUpdate | None:
    return session.get(ModelUpdate, adapter.model_update_id) if adapter.model_update_id else None


def _move_in_flight(
    session: Session, update: ModelUpdate | None, to: ModelUpdateStatus, *, actor: str, reason: str
) -> None:
    if update is not None and update.status in IN_FLIGHT:
        move_update(session, update, to, actor=actor, reason=reason)


def _begin(
    session: Session,
    kind: RolloutKind,
    challenger: Adapter,
    incumbent: Adapter | None,
    policy: RolloutPolicy,
    *,
    share: float,
    update: ModelUpdate | None,
) -> Rollout:
    evidence = RolloutEvidence(recorded=_recorded(session, challenger, incumbent, policy))
    rollout = Rollout(
        tenant_id=challenger.tenant_id,
        stable_diffusion_id=challenger.base_model_id,
        model_update_id=update.id if update else challenger.model_update_id,
        kind=kind,
        challenger_id=challenger.id,
        incumbent_id=incumbent.id if incumbent else None,
        share=share,
        policy=policy.model_dump(mode="json"),
        evidence=evidence.model_dump(mode="json"),
    )
    session.add(rollout)
    session.flush()
    return rollout


def _recorded(session: Session, challenger: Adapter, incumbent: Adapter | None, policy: RolloutPolicy) -> Thumbs:
    """What people said of the incumbent so far; no user counts more often than in the live test."""
    said = rollouts.recorded_thumbs(
        session,
        tenant_id=challenger.tenant_id,
        model_id=challenger.base_model_id,
        adapter_id=incumbent.id if incumbent else None,
    )
    counts: dict[str, int] = {}
    likes = 0
    for user_ref, liked in said:
        counts[user_ref] = counts.get(user_ref, 0) + 1
        likes += liked and counts[user_ref] <= policy.max_per_user
    return Thumbs(count=sum(min(count, policy.max_per_user) for count in counts.values()), likes=likes)


def _end(session: Session, rollout: Rollout, outcome: RolloutOutcome, *, reason: str) -> None:
    rollout.outcome, rollout.reason, rollout.ended_at = outcome, reason, func.now()
    session.flush()


def _end_own_canary(session: Session, adapter: Adapter, outcome: RolloutOutcome, *, reason: str) -> bool:
    running = rollouts.running(session, tenant_id=adapter.tenant_id, model_id=adapter.base_model_id)
    if running is None or running.kind != RolloutKind.CANARY or running.challenger_id != adapter.id:
        return False
    _end(session, running, outcome, reason=reason)
    return True


def _give_way(session: Session, adapter: Adapter, *, actor: str) -> None:
    running = rollouts.running(session, tenant_id=adapter.tenant_id, model_id=adapter.base_model_id)
    if running is not None:
        _supersede(session, running, actor=actor, reason=f"{adapter.ref} was put in instead.")


def _supersede(session: Session, rollout: Rollout, *, actor: str, reason: str) -> None:
    """End a rollout without a result; a canary and its update go with it."""
    _end(session, rollout, RolloutOutcome.SUPERSEDED, reason=reason)
    if rollout.kind != RolloutKind.CANARY:
        return
    canary = session.get_one(Adapter, rollout.challenger_id)
    move_adapter(session, canary, AdapterStage.RETIRED, actor=actor, reason=reason)
    update = session.get(ModelUpdate, rollout.model_update_id) if rollout.model_update_id else None
    _move_in_flight(session, update, ModelUpdateStatus.REJECTED, actor=actor, reason=reason)
