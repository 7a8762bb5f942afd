"""Checkpoints that a training no longer needs."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from core.infra.repository import training as trainings
from core.services.run import Claim


def forget_older(session: Session, claim: Claim, *, keep: int) -> Sequence[str]:
    """Forget all but the newest `keep` checkpoints of a job; gives the object prefixes that nobody needs now.

    Only the run that has just recorded a checkpoint calls this, so that the newest is always its own.
    """
    return trainings.remove_checkpoints(session, job_id=claim.job_id, keep=keep)
