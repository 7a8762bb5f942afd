"""Look at a running rollout: weigh what people said since, keep the evidence, and act on what it says."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.feedback import FeedbackKind
from core.domain.guard import ArmWork
from core.domain.live_comparison import LiveOpinion
from core.domain.policy import RolloutPolicy
from core.domain.rollout import RolloutKind, RolloutOutcome
from core.domain.rollout_verdict import RolloutEvidence, Ruling, decide, weigh
from core.infra.repository import lock
from core.infra.repository import rollout as rollouts
from core.infra.repository.rollout import SaidLive
from core.infra.table import Adapter, Rollout
from core.services import rollout as rollout_service
from core.services.rollout import is_taken_back


def running(session: Session) -> list[tuple[UUID, UUID]]:
    """(tenant, base model) of every rollout that runs."""
    return list(rollouts.all_running(session))


def look(session: Session, *, tenant_id: UUID, model_id: UUID, with_work: bool = True) -> Ruling | None:
    """Weigh the rollout of a base model and end it where the evidence says so; how it ended.

    Without `with_work` the figures of its jobs stay as they were, and nothing is weighed where nobody said anything
    new: that is cheap enough for every tick of the clockwork.
    """
    lock.take(session, "learning", tenant_id, model_id)
    rollout = rollouts.running(session, tenant_id=tenant_id, model_id=model_id)
    if rollout is None:
        return None
    policy = RolloutPolicy.model_validate(rollout.policy)
    evidence = _weighed(session, rollout, policy, with_work=with_work)
    rollout.evidence = evidence.model_dump(mode="json")
    kind = RolloutKind(rollout.kind)
    ruling = decide(evidence, policy, kind=kind, age_days=rollouts.age_days(session, rollout))
    challenger = session.get_one(Adapter, rollout.challenger_id)
    if ruling is None:
        return _end_tainted_watch(session, rollout)
    if ruling.outcome is RolloutOutcome.PROMOTED and is_taken_back(session, challenger):
        return None  # its clean successor is on the way
    _act(session, rollout, challenger, ruling, policy)
    return ruling


def _weighed(session: Session, rollout: Rollout, policy: RolloutPolicy, *, with_work: bool) -> RolloutEvidence:
    known = RolloutEvidence.model_validate(rollout.evidence)
    opinions, newest = rollouts.count_said(session, rollout)
    newest_at = None if newest is None else newest.timestamp()
    if not with_work and (opinions, newest_at) == (known.opinions, known.newest_at):
        return known
    works = (known.challenger_work, known.incumbent_work)
    if with_work:
        works = (_work(session, rollout, with_challenger=True), _work(session, rollout, with_challenger=False))
    found = weigh(
        [_opinion(said) for said in rollouts.said_live(session, rollout)],
        policy,
        recorded=known.recorded,
        challenger_work=works[0],
        incumbent_work=works[1],
    )
    return found.model_copy(update={"opinions": opinions, "newest_at": newest_at})


def _work(session: Session, rollout: Rollout, *, with_challenger: bool) -> ArmWork:
    since: datetime = rollout.started_at
    done = rollouts.done_jobs(session, rollout, with_challenger=with_challenger, since=since)
    return ArmWork(jobs=done.jobs, failed=done.failed, seconds_per_unit=done.seconds_per_unit)


def _opinion(said: SaidLive) -> LiveOpinion:
    score = None if said.rating is None else (said.rating - 1) / 4
    # Only within one request are the sides drawn at random; who picks his own pairs could pick the winners.
    is_fair = said.kind is not FeedbackKind.CHOICE or said.rejected_job_id == said.job_id
    return LiveOpinion(
        user_ref=said.user_ref,
        request=str(said.job_id),
        kind=said.kind,
        arm=said.arm,
        rejected_arm=said.rejected_arm if is_fair else None,
        score=score if said.liked is None else float(said.liked),
        side_by_side=len(set(said.arms)) > 1,
    )


def _act(session: Session, rollout: Rollout, challenger: Adapter, ruling: Ruling, policy: RolloutPolicy) -> None:
    actor, reason = ruling.actor, ruling.reason
    match ruling.outcome:
        case RolloutOutcome.PROMOTED:
            rollout_service.promote(session, adapter=challenger, actor=actor, reason=reason, policy=policy)
        case RolloutOutcome.KEPT:
            rollout_service.keep(session, rollout, reason=reason)
        case _:
            rollout_service.roll_back(session, adapter=challenger, actor=actor, reason=reason)


def _end_tainted_watch(session: Session, rollout: Rollout) -> Ruling | None:
    """A predecessor whose training data was withdrawn must not serve a share any longer."""
    incumbent = session.get(Adapter, rollout.incumbent_id) if rollout.incumbent_id else None
    if rollout.kind != RolloutKind.WATCH or incumbent is None or not is_taken_back(session, incumbent):
        return None
    reason = f"Feedback that {incumbent.ref} was trained on was withdrawn, so it is compared with no longer."
    rollout_service.keep(session, rollout, reason=reason)
    return Ruling(RolloutOutcome.KEPT, "withdrawal", reason)
