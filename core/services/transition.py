"""Move an adapter or an update to its next state, and keep the reason."""

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
    session.add(
        Transition(
            tenant_id=adapter.tenant_id,
            stable_diffusion_id=adapter.base_model_id,
            adapter_id=adapter.id,
            model_update_id=update.id if update else adapter.model_update_id,
            before=adapter.stage,
            after=to,
            actor=actor,
            reason=reason,
            created_at=func.clock_timestamp(),  # several of one transaction keep their order
        )
    )
    adapter.stage = to
    session.flush()


def begin_update(session: Session, update: ModelUpdate, *, actor: str, reason: str) -> None:
    """Add an update in its first status, and keep why it begins."""
    update.status = ModelUpdateStatus.PLANNED
    session.add(update)
    session.flush()
    session.add(
        Transition(
            tenant_id=update.tenant_id,
            stable_diffusion_id=update.stable_diffusion_id,
            model_update_id=update.id,
            after=update.status,
            actor=actor,
            reason=reason,
            created_at=func.clock_timestamp(),  # several of one transaction keep their order
        )
    )


def begin_adapter(session: Session, adapter: Adapter, *, actor: str, reason: str) -> None:
    """Add an update's adapter in its first stage, and keep where it comes from."""
    adapter.stage = AdapterStage.CANDIDATE
    session.add(adapter)
    session.flush()
    session.add(
        Transition(
            tenant_id=adapter.tenant_id,
            stable_diffusion_id=adapter.base_model_id,
            adapter_id=adapter.id,
            model_update_id=adapter.model_update_id,
            after=adapter.stage,
            actor=actor,
            reason=reason,
            created_at=func.clock_timestamp(),
        )
    )


def move_update(session: Session, update: ModelUpdate, to: ModelUpdateStatus, *, actor: str, reason: str) -> None:
    """Give an update another status; one that leaves flight is completed, with the reason as its outcome."""
    session.add(
        Transition(
            tenant_id=update.tenant_id,
            stable_diffusion_id=update.stable_diffusion_id,
            model_update_id=update.id,
            before=update.status,
            after=to,
            actor=actor,
            reason=reason,
            created_at=func.clock_timestamp(),  # several of one transaction keep their order
        )
    )
    update.status = to
    if to not in IN_FLIGHT:
        update.outcome_reason, update.completed_at = reason, func.now()
    session.flush()
