"""What a worker reads and writes while a model update runs. Every write is fenced by its claim."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.errors import DatasetUnusable, JobCanceled, OwnershipLost
from core.domain.generation import GenerationDefaults, ResolvedAdapter
from core.domain.model_update import AT_WORK, ModelUpdateStatus
from core.domain.outcome import Output
from core.domain.preference import PreferenceManifest, PreferenceReport
from core.domain.update_plan import UpdatePlan
from core.infra.repository import lease as leases
from core.infra.repository import model_update as updates
from core.infra.repository import rollout as rollouts
from core.infra.repository import selection as selection_rows
from core.infra.table import Adapter, ModelUpdate, StableDiffusion
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
    _fence(session, claim)
    update = _held(session, claim, update_id)
    if update.status not in AT_WORK or update.taken_back_at is not None:
        raise JobCanceled
    if AT_WORK.index(phase) > AT_WORK.index(ModelUpdateStatus(update.status)):
        move_update(session, update, phase, actor="worker", reason=_SENTENCES[phase])


def _fence(session: Session, claim: Claim) -> None:
    values = {"progress_at": func.now()}
    if not leases.write(session, job_id=claim.job_id, claim_epoch=claim.claim_epoch, values=values):
        raise OwnershipLost


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


def lose(session: Session, image_ids: Collection[UUID]) -> None:
    """Remember that pictures are gone from the store, or not what they were: no later update selects them."""
    selection_rows.mark_lost(session, image_ids=image_ids)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that is done: what it saw, and the files that it stored, the adapter's among them."""

    report: PreferenceReport
    outputs: list[Output]


def keep_trained(session: Session, claim: Claim, trained: Trained, *, update_id: UUID) -> None:
    """Remember that the training is done and where its files are, so that no later run trains again.

    Raises:
        OwnershipLost: the claim is no longer ours; nothing is written.
    """
    _fence(session, claim)
    outputs = [asdict(output) for output in trained.outputs]
    _held(session, claim, update_id).trained = {"report": trained.report.model_dump(mode="json"), "outputs": outputs}


def find_trained(session: Session, *, update_id: UUID) -> Trained | None:
    """What an earlier run of the job has trained, if one got so far."""
    kept = session.get_one(ModelUpdate, update_id).trained
    if kept is None:
        return None
    outputs = [Output(**output) for output in kept["outputs"]]
    return Trained(report=PreferenceReport.model_validate(kept["report"]), outputs=outputs)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a candidate is held against. `champion` is None for the bare base, as it is for a clean retrain."""

    champion: ResolvedAdapter | None
    defaults: GenerationDefaults
    raters: int
    opinions_by_user: Sequence[int]


def read_bar(session: Session, claim: Claim, plan: UpdatePlan) -> Bar:
    """Who serves now, how pictures are drawn, and how many people the training data is from."""
    model = session.get_one(StableDiffusion, claim.model.id)
    update = session.get_one(ModelUpdate, plan.update_id)
    champion = None
    if not plan.is_clean_retrain:
        champion = rollouts.champion(session, tenant_id=claim.tenant_id, model_id=claim.model.id)
    return Bar(
        champion=_resolved(champion) if champion else None,
        defaults=GenerationDefaults.model_validate(model.defaults),
        raters=update.reason["counts"]["raters"],
        opinions_by_user=updates.opinions_by_user(session, update_id=plan.update_id),
    )


def _resolved(adapter: Adapter) -> ResolvedAdapter:
    return ResolvedAdapter(
        id=str(adapter.id),
        name=adapter.name,
        version=adapter.version,
        sha256=adapter.sha256,
        object_key=adapter.object_key,
        weight=1.0,
        text_encoder_weight=1.0,
    )
