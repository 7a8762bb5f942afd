"""What a worker reads and writes while a model update runs. Every write is fenced by its claim."""

from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.errors import DatasetUnusable, JobCanceled, OwnershipLost
from core.domain.generation import ResolvedAdapter
from core.domain.model_update import AT_WORK, ModelUpdateStatus
from core.domain.preference import PreferenceManifest
from core.domain.update_plan import UpdatePlan
from core.infra.repository import job as jobs
from core.infra.repository import model_update as updates
from core.infra.repository import rollout as rollouts
from core.infra.table import ModelUpdate
from core.services import selection as selections
from core.services.run import Claim
from core.services.transition import move_update

_SENTENCES = {
    ModelUpdateStatus.TRAINING: "A worker trains on the frozen feedback.",
    ModelUpdateStatus.EVALUATING: "The candidate is compared with what serves now.",
}


def enter(session: Session, claim: Claim, phase: ModelUpdateStatus, *, update_id: UUID) -> None:
    """Show that an update trains or evaluates; one that was evaluated before does not go back.

    Raises:
        OwnershipLost: the claim is no longer ours; nothing is written.
        JobCanceled: the update has ended meanwhile, or feedback of it was withdrawn.
    """
    values = {"progress_at": func.now()}
    if jobs.renew(session, job_id=claim.job_id, claim_epoch=claim.claim_epoch, values=values) is None:
        raise OwnershipLost
    update = _held(session, claim, update_id)
    if update.status not in AT_WORK or update.taken_back_at is not None:
        raise JobCanceled
    if AT_WORK.index(phase) > AT_WORK.index(ModelUpdateStatus(update.status)):
        move_update(session, update, phase, actor="worker", reason=_SENTENCES[phase])


def _held(session: Session, claim: Claim, update_id: UUID) -> ModelUpdate:
    update = updates.by_id(session, tenant_id=claim.tenant_id, update_id=update_id, for_update=True)
    assert update is not None
    return update


def read_manifest(session: Session, plan: UpdatePlan) -> PreferenceManifest:
    """The frozen rows of an update, in order.

    Raises:
        DatasetUnusable: they are not what the update was planned with.
    """
    manifest = selections.read_manifest(session, update_id=plan.update_id)
    if manifest.digest != plan.dataset_digest:
        raise DatasetUnusable("The training data is not what the update was planned with.")
    return manifest


def rater_count(session: Session, plan: UpdatePlan) -> int:
    """The number of people whose opinions are in the training data."""
    return int(session.get_one(ModelUpdate, plan.update_id).reason["counts"]["raters"])


def read_champion(session: Session, claim: Claim, plan: UpdatePlan) -> ResolvedAdapter | None:
    """What the candidate is compared with; None for the bare base, which a clean retrain is compared with too."""
    if plan.is_clean_retrain:
        return None
    adapter = rollouts.champion(session, tenant_id=claim.tenant_id, model_id=claim.model.id)
    if adapter is None:
        return None
    return ResolvedAdapter(
        id=str(adapter.id),
        name=adapter.name,
        version=adapter.version,
        sha256=adapter.sha256,
        object_key=adapter.object_key,
        weight=1.0,
        text_encoder_weight=1.0,
    )
