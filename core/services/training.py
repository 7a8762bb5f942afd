"""What a training run keeps on its way: the loss of each step, and checkpoints to go on from."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.errors import OwnershipLost
from core.domain.training import TrainingMetric
from core.infra.repository import job as jobs
from core.infra.repository import training as trainings
from core.infra.table import Checkpoint
from core.services.run import Claim


def record_metrics(session: Session, claim: Claim, metrics: Sequence[TrainingMetric]) -> None:
    """Keep the metrics of some steps; a step computed again replaces its earlier figures.

    Raises:
        OwnershipLost: the claim is no longer ours; nothing is written.
    """
    _fence(session, claim, crash_count_reset=False)
    if metrics:
        trainings.upsert_metrics(session, job_id=claim.job_id, metrics=metrics)


def record_checkpoint(session: Session, claim: Claim, *, step: int, object_prefix: str, manifest_sha256: str) -> None:
    """Make a checkpoint, whose files are all stored, one to go on from.

    Raises:
        OwnershipLost: the claim is no longer ours; nothing is written.
    """
    _fence(session, claim, crash_count_reset=True)
    session.add(
        Checkpoint(
            job_id=claim.job_id,
            step=step,
            claim_epoch=claim.claim_epoch,
            object_prefix=object_prefix,
            manifest_sha256=manifest_sha256,
        )
    )


def _fence(session: Session, claim: Claim, *, crash_count_reset: bool) -> None:
    # A run that gets as far as a checkpoint is no poison: only crashes in a row count.
    values = {"progress_at": func.now()} | ({"crash_count": 0} if crash_count_reset else {})
    if jobs.renew(session, job_id=claim.job_id, claim_epoch=claim.claim_epoch, values=values) is None:
        raise OwnershipLost


def newest_checkpoints(session: Session, *, job_id: UUID) -> Sequence[Checkpoint]:
    """Checkpoints to go on from, newest step first; the first whose files verify is the one."""
    return trainings.checkpoints_of(session, job_id=job_id)
