"""Update policies: read, put, and say why no update has started yet."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.base_model import ModelStatus
from core.domain.errors import Conflict, FieldProblem, InvalidInput
from core.domain.policy import PolicyDecision, Standing, UpdatePolicy, decide
from core.infra.repository import base_model as base_models
from core.infra.repository import policy as policies
from core.services import model as models
from core.services.training import cannot_learn, check_targets

_QUIET_SECONDS = 1.0
"""Looks of one moment find the same, and their rows would wait for each other."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A policy, how things stand, what follows; `decided_at` is the look that was kept last."""

    policy: UpdatePolicy
    standing: Standing
    decision: PolicyDecision
    decided_at: datetime | None


def get(session: Session, *, tenant_id: UUID, model_id: UUID, default: UpdatePolicy) -> UpdatePolicy:
    """The tenant's policy for a base model: its own, or the operator's `default`."""
    row = policies.row(session, tenant_id=tenant_id, model_id=model_id)
    return UpdatePolicy.model_validate(row.policy) if row is not None and row.policy else default


def put(session: Session, policy: UpdatePolicy, *, tenant_id: UUID, model_id: UUID) -> None:
    """Replace the tenant's policy for a base model; an update that is in flight keeps the one it began with.

    Raises:
        NotFound: no such base model, or another tenant's own.
        Conflict: the base model is not ready, so nothing can be checked against it.
        InvalidInput: names what of the recipe does not fit the base model.
    """
    model = models.get(session, tenant_id=tenant_id, model_id=model_id)
    if model.status != ModelStatus.READY:
        raise Conflict(f"The base model {model.name} is not ready; its status is {model.status}.")
    try:
        check_targets(policy.recipe, base_models.modules_of(session, model_id=model_id))
    except InvalidInput as error:
        raise InvalidInput([FieldProblem(f"recipe.{each.field}", each.message) for each in error.problems]) from None
    policies.put(session, policy.model_dump(mode="json"), tenant_id=tenant_id, model_id=model_id)


def standing(session: Session, *, tenant_id: UUID, model_id: UUID, with_volume: bool = True) -> Standing:
    """How things stand now. Without the volume it costs a pass over the new labels only."""
    labels = policies.new_labels(session, tenant_id=tenant_id, model_id=model_id)
    last = policies.last_updates(session, tenant_id=tenant_id, model_id=model_id)
    pairs, likes = policies.volume(session, tenant_id=tenant_id, model_id=model_id) if with_volume else (None, None)
    return Standing(
        new_labels=labels.count,
        users=labels.users,
        oldest_age_hours=labels.oldest_age_hours,
        hours_since_last_update=last.hours_since_end,
        like_rate=labels.likes / labels.thumbs if labels.thumbs else None,
        thumbs=labels.thumbs,
        pairs=pairs,
        likes=likes,
        in_flight_update_id=last.in_flight_id,
        in_flight_since=last.in_flight_since,
    )


def look(session: Session, *, tenant_id: UUID, model_id: UUID, default: UpdatePolicy) -> Look:
    """The policy and why no update has started yet, in numbers.

    Raises:
        NotFound: no such base model, or another tenant's own.
    """
    model = models.get(session, tenant_id=tenant_id, model_id=model_id)
    policy = get(session, tenant_id=tenant_id, model_id=model_id, default=default)
    now = standing(session, tenant_id=tenant_id, model_id=model_id)
    decision = decide(policy, now)
    row = policies.row(session, tenant_id=tenant_id, model_id=model_id)
    kept = row.decision if row else None
    if reason := cannot_learn(model):
        decision = PolicyDecision(due=False, waiting_for=(reason, *decision.waiting_for))
    elif decision.due and kept and (selected := kept.get("selected")):
        decision = PolicyDecision(due=False, waiting_for=(selected["missing"],))
    return Look(policy=policy, standing=now, decision=decision, decided_at=row.decided_at if row else None)


def selected_lately(session: Session, *, tenant_id: UUID, model_id: UUID) -> dict[str, Any] | None:
    """What the last look that selected training data found missing; None where it has not come to that."""
    row = policies.row(session, tenant_id=tenant_id, model_id=model_id)
    kept: dict[str, Any] | None = row.decision.get("selected") if row is not None and row.decision else None
    return kept


def note(
    session: Session,
    decision: PolicyDecision,
    now: Standing,
    *,
    tenant_id: UUID,
    model_id: UUID,
    selected: dict[str, Any] | None = None,
) -> None:
    """Keep what a look found; one that found nothing due is left out where another was kept a moment ago."""
    quiet = not decision.due and selected is None
    if quiet and policies.was_noted_within(session, tenant_id=tenant_id, model_id=model_id, seconds=_QUIET_SECONDS):
        return
    found = decision.model_dump(mode="json") | {"standing": now.model_dump(mode="json"), "selected": selected}
    policies.note(session, found, tenant_id=tenant_id, model_id=model_id)
