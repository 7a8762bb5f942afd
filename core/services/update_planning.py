"""Start a model update: count the new feedback, select and freeze the training data, submit the job, all or nothing."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.job import JobKind
from core.domain.limit import Limits
from core.domain.model_update import Split, UpdateTrigger
from core.domain.policy import UpdatePolicy, enough, shortfall
from core.domain.selection import Selection
from core.domain.update_plan import UpdatePlan
from core.infra.repository import model_update as updates
from core.infra.table import ModelUpdate, StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import job as jobs
from core.services import selection as selections
from core.services.adapter import next_version
from core.services.job import Submission
from core.services.terms import Terms
from core.services.training import resolution_of, work_units
from core.services.transition import begin_update

_LEARNED = "-learned"
_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an update starts, and of which feedback.

    `reason` are the numbers behind `sentence`. An update that `replaces` another takes up the feedback `among` which
    that one looked at, and counts none; `is_clean_retrain` where that one serves as champion.
    """

    trigger: UpdateTrigger
    actor: str
    sentence: str
    reason: dict[str, Any] = field(default_factory=dict)
    replaces: ModelUpdate | None = None
    among: Collection[UUID] | None = None
    is_clean_retrain: bool = False


@dataclass(frozen=True)
class TooLittle:
    """Why there was nothing to start, in numbers; `pairs` and `likes` are what the rules of selection left."""

    pairs: int
    likes: int
    sentence: str


def plan(
    session: Session,
    model: StableDiffusion,
    policy: UpdatePolicy,
    cause: Cause,
    *,
    terms: Terms,
    queue: TaskQueue,
    limits: Limits,
) -> ModelUpdate | TooLittle:
    """Start an update in the caller's transaction, which holds the pair's lock and has seen that none is in flight.

    Where too little is left to train on, nothing is written.

    Raises:
        QueueFull, QuotaExceeded: `limits` forbid it.
    """
    with session.begin_nested() as everything:
        update = ModelUpdate(
            tenant_id=terms.tenant_id,
            stable_diffusion_id=model.id,
            trigger=cause.trigger,
            replaces_update_id=cause.replaces.id if cause.replaces else None,
            policy=policy.model_dump(mode="json"),
        )
        begin_update(session, update, actor=cause.actor, reason=cause.sentence)
        if cause.replaces is None:  # before the selection, so that whatever is counted was looked at
            update.triggered_by_feedback_id = updates.count_new_feedback(
                session, update_id=update.id, tenant_id=terms.tenant_id, model_id=model.id
            )
        selection = selections.select(
            session, tenant_id=terms.tenant_id, model_id=model.id, policy=policy.selection, among=cause.among
        )
        if missing := _missing(policy, selection):
            everything.rollback()
            return missing
        update.reason = cause.reason | {"because": cause.sentence, "counts": _counts(selection)}
        selections.freeze(session, update, selection)
        planned = _planned(session, update, model, policy, is_clean_retrain=cause.is_clean_retrain)
        submission = _submission(planned, terms, model)
        update.job_id = jobs.submit(session, submission, queue=queue, limits=limits).job.id
        session.flush()
    return update


def adapter_name(model: StableDiffusion, policy: UpdatePolicy) -> str:
    """The name whose next version an update makes."""
    return policy.adapter_name or f"{model.name[: _LONGEST_NAME - len(_LEARNED)]}{_LEARNED}"


def _missing(policy: UpdatePolicy, selection: Selection) -> TooLittle | None:
    pairs, likes = selection.pairs, selection.likes + selection.dislikes
    if not enough(policy, pairs=pairs, likes=likes):
        left = shortfall(policy, pairs=pairs, likes=likes)
        return TooLittle(pairs, likes, f"{left} are left by the rules of selection")
    if not any(row.split is Split.TRAIN for row in selection.rows):
        return TooLittle(pairs, likes, f"opinions to train on: all {len(selection.rows)} are held out")
    return None


def _counts(selection: Selection) -> dict[str, Any]:
    splits = Counter(row.split for row in selection.rows)
    return {
        "rows": len(selection.rows),
        "train": splits[Split.TRAIN],
        "held_out": splits[Split.HELD_OUT],
        "excluded": len(selection.exclusions),
        "excluded_by": dict(Counter(str(each.rule) for each in selection.exclusions)),
        "raters": selection.raters,
        "flip_rate": selection.flip_rate,
        "pairs": selection.pairs,
        "likes": selection.likes,
        "dislikes": selection.dislikes,
    }


def _planned(
    session: Session, update: ModelUpdate, model: StableDiffusion, policy: UpdatePolicy, *, is_clean_retrain: bool
) -> UpdatePlan:
    recipe, counts, name = policy.recipe, update.reason["counts"], adapter_name(model, policy)
    if recipe.flip_rate is None:
        recipe = recipe.model_copy(update={"flip_rate": counts["flip_rate"]})
    assert update.manifest_sha256 is not None
    return UpdatePlan(
        spec=recipe,
        name=name,
        description=f"Learned from {counts['train']} opinions of {counts['raters']} people.",
        base_model=model.name,
        adapter_version=next_version(session, tenant_id=update.tenant_id, name=name),
        alpha=float(recipe.rank if recipe.alpha is None else recipe.alpha),
        resolution=resolution_of(model),
        seed=policy.seed,
        dataset_digest=update.manifest_sha256,
        update_id=update.id,
        gates=policy.gates,
        approval_below=policy.approval_below,
        canary_share=policy.rollout.canary_share,
        is_clean_retrain=is_clean_retrain,
    )


def _submission(planned: UpdatePlan, terms: Terms, model: StableDiffusion) -> Submission:
    return Submission(
        tenant_id=terms.tenant_id,
        kind=JobKind.MODEL_UPDATE,
        spec={"name": planned.name, "model_update_id": str(planned.update_id)},
        plan=planned.model_dump(mode="json"),
        base_model_id=model.id,
        work_units=work_units(planned.spec, resolution=planned.resolution),
        idempotency=terms.idempotency,
        cancel_after=terms.cancel_after,
        priority=terms.priority,
    )
