"""What serves a request that names no adapter: the champion, or a place in the running rollout."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.generation import Assignment, ResolvedAdapter
from core.domain.rollout import RolloutKind, arms_of, bucket_of
from core.infra.repository import rollout as rollouts

_draw = random.SystemRandom()


@dataclass(frozen=True)
class Served:
    """The adapters of a plan, and its part in a rollout; both empty where the bare base model serves."""

    adapters: tuple[ResolvedAdapter, ...] = ()
    assignment: Assignment | None = None


def serve(session: Session, *, tenant_id: UUID, model_id: UUID, user_ref: str | None, num_images: int) -> Served:
    """What a request without adapters is drawn with; it stays until the commit. One query, because every submit asks.

    A user whose name is given stays on one side for as long as the rollout runs.
    """
    rows = rollouts.serving(session, tenant_id=tenant_id, model_id=model_id)
    if not rows:
        return Served()
    one = rows[0]
    if one.rollout_id is None:
        return Served(_resolved(rows, one.id))
    kind, rollout_id = RolloutKind(one.kind), str(one.rollout_id)
    bucket = _draw.random() if user_ref is None else bucket_of(rollout_id, user_ref)
    arms = arms_of(kind, share=one.share, bucket=bucket, num_images=num_images, draw=_draw)
    challenger = _resolved(rows, one.challenger_id)
    return Served(
        _resolved(rows, one.incumbent_id), Assignment(rollout_id=rollout_id, arms=arms, challenger=challenger)
    )


def _resolved(rows: Sequence[Any], adapter_id: UUID | None) -> tuple[ResolvedAdapter, ...]:
    return tuple(
        ResolvedAdapter(
            id=str(row.id),
            name=row.name,
            version=row.version,
            sha256=row.sha256,
            object_key=row.object_key,
            weight=1.0,
            text_encoder_weight=1.0,
        )
        for row in rows
        if row.id == adapter_id
    )
