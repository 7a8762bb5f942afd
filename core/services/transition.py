"""Move an adapter or an update to its next state, and keep the reason."""

from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterStage
from core.domain.model_update import IN_FLIGHT, ModelUpdateStatus
from core.infra.table import Adapter, ModelUpdate, Transition


def move_adapter(
    session: Session,
    adapter: Adapter,
    to: AdapterStage,
    *,
    actor: str,
    reason: str,
    update: ModelUpdate | None = None,
) -> None:
    """Give an adapter another stage; written at once, so that the next champion finds the place free.

    `actor` is who moved it: `worker`, `test`, `guard`, `person`, `policy`, `withdrawal` or `clock`.
    """
    before, adapter.stage = adapter.stage, to
    update_id = update.id if update else adapter.model_update_id
    _note_adapter(session, adapter, before=before, update_id=update_id, actor=actor, reason=reason)
    session.flush()


def move_update(session: Session, update: ModelUpdate, to: ModelUpdateStatus, *, actor: str, reason: str) -> None:
    """Give an update another status; one that leaves flight is completed, with the reason as its outcome."""
    before, update.status = update.status, to
    _note_update(session, update, before=before, actor=actor, reason=reason)
    if to not in IN_FLIGHT:
        update.outcome_reason, update.completed_at = reason, func.now()
    session.flush()


def begin_update(session: Session, update: ModelUpdate, *, actor: str, reason: str) -> None:
    """Add an update in its first status, and keep why it begins."""
    update.status = ModelUpdateStatus.PLANNED
    session.add(update)
    session.flush()
    _note_update(session, update, before=None, actor=actor, reason=reason)


def begin_adapter(session: Session, adapter: Adapter, *, actor: str, reason: str) -> None:
    """Add an update's adapter in its first stage, and keep where it comes from."""
    adapter.stage = AdapterStage.CANDIDATE
    session.add(adapter)
    session.flush()
    _note_adapter(session, adapter, before=None, update_id=adapter.model_update_id, actor=actor, reason=reason)


def _note_adapter(
    session: Session, adapter: Adapter, *, before: str | None, update_id: UUID | None, actor: str, reason: str
) -> None:
    session.add(
        Transition(
            tenant_id=adapter.tenant_id,
            stable_diffusion_id=adapter.base_model_id,
            adapter_id=adapter.id,
            model_update_id=update_id,
            before=before,
            after=adapter.stage,
            actor=actor,
            reason=reason,
            created_at=func.clock_timestamp(),  # several of one transaction keep their order
        )
    )


def _note_update(session: Session, update: ModelUpdate, *, before: str | None, actor: str, reason: str) -> None:
    session.add(
        Transition(
            tenant_id=update.tenant_id,
            stable_diffusion_id=update.stable_diffusion_id,
            model_update_id=update.id,
            before=before,
            after=update.status,
            actor=actor,
            reason=reason,
            created_at=func.clock_timestamp(),  # several of one transaction keep their order
        )
    )
