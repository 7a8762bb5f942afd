"""Queries on update policies, and on what stands between them and the next update."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, distinct, func, null, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.domain.feedback import FeedbackKind
from core.domain.model_update import IN_FLIGHT
from core.infra.repository.feedback import CURRENT
from core.infra.table import ModelUpdate, UpdatePolicyRow, UserFeedback

NEW = and_(UserFeedback.counted_in_update_id.is_(None), CURRENT)
LABEL = UserFeedback.kind != FeedbackKind.COMMENT
_KEY = ["tenant_id", "stable_diffusion_id"]


@dataclass(frozen=True)
class NewLabels:
    """Current opinions that no update was started by. `oldest_age_hours` is None where there are none."""

    count: int
    users: int
    oldest_age_hours: float | None
    thumbs: int
    likes: int


@dataclass(frozen=True)
class LastUpdates:
    """The update in flight, if any, and the hours since one ended last."""

    in_flight_id: UUID | None
    in_flight_since: datetime | None
    hours_since_end: float | None


def of_pair(tenant_id: UUID, model_id: UUID) -> ColumnElement[bool]:
    """Feedback of a tenant on a base model."""
    return and_(UserFeedback.tenant_id == tenant_id, UserFeedback.stable_diffusion_id == model_id)


def row(session: Session, *, tenant_id: UUID, model_id: UUID) -> UpdatePolicyRow | None:
    return session.get(UpdatePolicyRow, (tenant_id, model_id), populate_existing=True)


def put(session: Session, policy: dict[str, Any], *, tenant_id: UUID, model_id: UUID) -> None:
    """Write a policy; what the last look found is forgotten."""
    values = {"policy": policy, "decision": null(), "decided_at": None, "updated_at": func.now()}
    statement = insert(UpdatePolicyRow).values(tenant_id=tenant_id, stable_diffusion_id=model_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=values))


def note(session: Session, decision: dict[str, Any], *, tenant_id: UUID, model_id: UUID) -> None:
    """Write what a look found; a policy that nobody put stays so."""
    values = {"decision": decision, "decided_at": func.now()}
    statement = insert(UpdatePolicyRow).values(tenant_id=tenant_id, stable_diffusion_id=model_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=values))


def was_noted_within(session: Session, *, tenant_id: UUID, model_id: UUID, seconds: float) -> bool:
    """Whether the last look is as young as that."""
    since = func.now() - timedelta(seconds=seconds)
    query = select(UpdatePolicyRow.tenant_id).where(
        UpdatePolicyRow.tenant_id == tenant_id,
        UpdatePolicyRow.stable_diffusion_id == model_id,
        UpdatePolicyRow.decided_at > since,
    )
    return session.scalar(query) is not None


def new_labels(session: Session, *, tenant_id: UUID, model_id: UUID) -> NewLabels:
    """One pass over the partial index of what is not counted yet."""
    thumb = UserFeedback.kind == FeedbackKind.THUMB
    counted = session.execute(
        select(
            func.count(),
            func.count(distinct(UserFeedback.user_ref)),
            func.extract("epoch", func.now() - func.min(UserFeedback.created_at)) / 3600,
            func.count().filter(thumb),
            func.count().filter(thumb, UserFeedback.liked.is_(True)),
        ).where(of_pair(tenant_id, model_id), NEW, LABEL)
    ).one()
    count, users, age, thumbs, likes = counted
    return NewLabels(count, users, None if age is None else max(0.0, float(age)), thumbs, likes)


def volume(session: Session, *, tenant_id: UUID, model_id: UUID) -> tuple[int, int]:
    """Current choices; current thumbs and ratings."""
    choice = UserFeedback.kind == FeedbackKind.CHOICE
    pairs, likes = session.execute(
        select(func.count().filter(choice), func.count().filter(~choice)).where(
            of_pair(tenant_id, model_id), CURRENT, LABEL
        )
    ).one()
    return int(pairs), int(likes)


def last_updates(session: Session, *, tenant_id: UUID, model_id: UUID) -> LastUpdates:
    mine = and_(ModelUpdate.tenant_id == tenant_id, ModelUpdate.stable_diffusion_id == model_id)
    flying = session.execute(
        select(ModelUpdate.id, ModelUpdate.created_at).where(mine, ModelUpdate.status.in_(IN_FLIGHT))
    ).one_or_none()
    hours = session.scalar(
        select(func.extract("epoch", func.now() - func.max(ModelUpdate.completed_at)) / 3600).where(mine)
    )
    return LastUpdates(
        in_flight_id=flying.id if flying else None,
        in_flight_since=flying.created_at if flying else None,
        hours_since_end=None if hours is None else max(0.0, float(hours)),
    )


def pairs_with_new_labels(session: Session) -> Sequence[tuple[UUID, UUID]]:
    """(tenant, base model) wherever feedback waits to be counted."""
    query = select(UserFeedback.tenant_id, UserFeedback.stable_diffusion_id).where(NEW, LABEL).distinct()
    return [(tenant_id, model_id) for tenant_id, model_id in session.execute(query)]
