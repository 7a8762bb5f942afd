"""Take feedback back: nothing new is made from it, and what was made from it is replaced or taken out of service."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.adapter import SERVING, AdapterStage
from core.domain.model_update import AT_WORK
from core.domain.policy import UpdatePolicy
from core.infra.repository import lock
from core.infra.repository import withdrawal as withdrawals
from core.infra.table import Adapter, ModelUpdate
from core.services import feedback as feedbacks

_MAY_SERVE = (*SERVING, AdapterStage.CANDIDATE)


@dataclass(frozen=True)
class Withdrawal:
    """How many opinions were withdrawn, the updates that had trained on them, and what those made.

    `retrain_by` is when the last of them that serves, or may come to serve, will have been replaced; None where none
    does.
    """

    withdrawn: int
    updates: tuple[ModelUpdate, ...]
    adapters: tuple[Adapter, ...]
    retrain_by: datetime | None

    def adapter_of(self, update: ModelUpdate) -> Adapter | None:
        """What an update made, if it still exists."""
        return next((adapter for adapter in self.adapters if adapter.model_update_id == update.id), None)


def withdraw(session: Session, *, tenant_id: UUID, feedback_id: UUID) -> Withdrawal:
    """Take back what a user said on one subject, with all that the same user said on it before.

    Raises:
        NotFound: no such feedback, another tenant's, or withdrawn already.
    """
    row = feedbacks.get(session, tenant_id=tenant_id, feedback_id=feedback_id)
    return _withdraw(session, tenant_id=tenant_id, user_ref=row.user_ref, subject=row.subject)


def withdraw_user(session: Session, *, tenant_id: UUID, user_ref: str) -> Withdrawal:
    """Take back all that a user ever said, and the user's name from requests; fine where that is nothing."""
    withdrawals.blank_user(session, tenant_id=tenant_id, user_ref=user_ref)
    return _withdraw(session, tenant_id=tenant_id, user_ref=user_ref, subject=None)


def _withdraw(session: Session, *, tenant_id: UUID, user_ref: str, subject: str | None) -> Withdrawal:
    models = withdrawals.models_spoken_of(session, tenant_id=tenant_id, user_ref=user_ref, subject=subject)
    for model_id in models:  # whoever plans an update now has either frozen this feedback already or will not see it
        lock.take(session, "learning", tenant_id, model_id)
    gone = withdrawals.forget(session, tenant_id=tenant_id, user_ref=user_ref, subject=subject, model_ids=models)
    withdrawals.blank_prompts(session, feedback_ids=gone)
    updates = withdrawals.updates_with(session, feedback_ids=gone)
    made = withdrawals.adapters_of(session, update_ids=[update.id for update in updates])
    for update in updates:
        _take_back(session, update, made.get(update.id))
    deadlines = [update.clean_by for update in updates if update.clean_by is not None]
    return Withdrawal(
        withdrawn=len(set(gone.values())),
        updates=tuple(updates),
        adapters=tuple(made.values()),
        retrain_by=max(deadlines, default=None),
    )


def _take_back(session: Session, update: ModelUpdate, adapter: Adapter | None) -> None:
    """Mark an update. One whose adapter serves or may come to serve gets a deadline; one that trains is stopped."""
    is_at_work = update.status in AT_WORK
    may_serve = is_at_work or (adapter is not None and adapter.stage in _MAY_SERVE)
    hours = UpdatePolicy.model_validate(update.policy).forget_hours
    withdrawals.take_back(session, update, clean_within=timedelta(hours=hours) if may_serve else None)
    if is_at_work and update.job_id is not None:
        withdrawals.cancel_if_free(session, tenant_id=update.tenant_id, job_id=update.job_id)
