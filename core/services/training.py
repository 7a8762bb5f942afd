"""Trainings: submit one, and keep what it leaves on its way, the loss of each step and checkpoints to go on from."""

import secrets
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from core.domain.base_model import TRAINABLE, ModelStatus
from core.domain.dataset import DatasetStatus
from core.domain.errors import Conflict, InvalidInput, NotFound, OwnershipLost
from core.domain.generation import GenerationDefaults
from core.domain.job import KINDS_OF_WORKER, JobKind, WorkerKind
from core.domain.problem_list import ProblemList
from core.domain.training import Recipe, TrainingMetric, TrainingPlan, TrainingSpec
from core.infra.repository import base_model as base_models
from core.infra.repository import dataset as datasets
from core.infra.repository import lease as leases
from core.infra.repository import training as trainings
from core.infra.settings import Settings
from core.infra.table import Checkpoint, Dataset, StableDiffusion, TrainingMetricRow
from core.infra.task_queue import TaskQueue
from core.services import job as job_service
from core.services import model as models
from core.services.adapter import next_version
from core.services.job import Accepted, Submission
from core.services.run import Claim
from core.services.terms import Terms

_PIXELS_PER_UNIT = 64 * 64
_SEEDS = 2**32


def submit(session: Session, spec: TrainingSpec, terms: Terms, *, settings: Settings, queue: TaskQueue) -> Accepted:
    """Check a training against its base model and its dataset, and make it a job.

    Raises:
        InvalidInput: names every field that is wrong.
        Conflict: the base model or the dataset is not ready.
        QueueFull, QuotaExceeded: a limit of the tenant forbids it.
        IdempotencyKeyReuse: the key came with another request.
    """
    if replay := terms.find_replay(session):
        return replay
    problems, model, dataset = ProblemList(), None, None
    with problems.gather():
        spec.check_webhook(private=settings.webhook_private)
    with problems.gather():
        name = spec.base_model or settings.default_model
        model = models.usable(session, tenant_id=terms.tenant_id, name=name, field="base_model")
    with problems.gather():
        dataset = _ready_dataset(session, spec.dataset_id, terms.tenant_id)
    if model is not None and (reason := untrainable(model)):
        problems.add("base_model", reason)
    elif model is not None:
        with problems.gather():
            check_targets(spec, base_models.modules_of(session, model_id=model.id))
        if (side := spec.resolution or resolution_of(model)) ** 2 > settings.max_pixels:
            problems.add("resolution", f"{side} * {side} is more than {settings.max_pixels} pixels")
    problems.raise_any()
    assert model is not None
    assert dataset is not None
    submission = _submission(spec, _plan(session, spec, terms, model, dataset), terms, model)
    return job_service.submit(session, submission, queue=queue, limits=settings.limits)


def _ready_dataset(session: Session, dataset_id: UUID, tenant_id: UUID) -> Dataset:
    dataset = datasets.hold(session, tenant_id=tenant_id, dataset_id=dataset_id)
    if dataset is None:
        raise InvalidInput.of("dataset_id", f"there is no dataset {dataset_id}")
    if dataset.status != DatasetStatus.READY:
        raise Conflict(f"The dataset {dataset_id} is not complete: upload its pictures, then complete it.")
    return dataset


def untrainable(model: StableDiffusion) -> str | None:
    """Why a base model cannot be trained, neither by hand nor from feedback; None where it can."""
    if model.family in TRAINABLE:
        return None
    return f"{model.name} is of the family {model.family}; only {', '.join(TRAINABLE)} can be trained"


def cannot_learn(model: StableDiffusion) -> str | None:
    """Why no update of a base model can start now, whatever its users say; None where one can."""
    if model.status != ModelStatus.READY:
        return f"{model.name} is not ready; its status is {model.status}"
    return untrainable(model)


def check_targets(recipe: Recipe, modules: Mapping[str, Sequence[int]]) -> None:
    """Every target must mean a module of the UNet, by its name or the end of it, as in peft.

    Raises:
        InvalidInput: names the targets that the base model lacks, or a rank that is too large.
    """
    problems, rooms = ProblemList(), []
    for index, target in enumerate(recipe.target_modules):
        meant = [shape for name, shape in modules.items() if name.startswith("unet.") and name.endswith(f".{target}")]
        if not meant:
            problems.add(f"target_modules.{index}", f"the base model has no module {target}")
        rooms += [min(shape[:2]) for shape in meant]
    if rooms and recipe.rank > min(rooms):
        problems.add("rank", f"must be at most {min(rooms)}, the smaller side of a module that is trained")
    problems.raise_any()


def resolution_of(model: StableDiffusion) -> int:
    """Pixels a side that a base model is trained at where nothing else is said."""
    defaults = GenerationDefaults.model_validate(model.defaults)
    return min(defaults.width, defaults.height)


def work_units(recipe: Recipe, *, resolution: int) -> float:
    """The size of a training, in units of one picture of 64 pixels a side shown to the UNet once."""
    return recipe.steps * recipe.batch_size * recipe.gradient_accumulation * resolution**2 / _PIXELS_PER_UNIT


def _plan(session: Session, spec: TrainingSpec, terms: Terms, model: StableDiffusion, dataset: Dataset) -> TrainingPlan:
    assert dataset.digest is not None
    return TrainingPlan(
        spec=spec,
        base_model=model.name,
        adapter_version=next_version(session, tenant_id=terms.tenant_id, name=spec.name),
        alpha=float(spec.rank if spec.alpha is None else spec.alpha),
        resolution=spec.resolution or resolution_of(model),
        seed=secrets.randbelow(_SEEDS) if spec.seed is None else spec.seed,
        dataset_digest=dataset.digest,
    )


def _submission(spec: TrainingSpec, plan: TrainingPlan, terms: Terms, model: StableDiffusion) -> Submission:
    return Submission(
        tenant_id=terms.tenant_id,
        kind=JobKind.TRAINING,
        spec=spec.model_dump(mode="json"),
        plan=plan.model_dump(mode="json"),
        base_model_id=model.id,
        dataset_id=spec.dataset_id,
        work_units=work_units(spec, resolution=plan.resolution),
        idempotency=terms.idempotency,
        cancel_after=terms.cancel_after,
        priority=terms.priority,
        webhook=spec.asked_webhook,
    )


def metrics_page(
    session: Session, *, tenant_id: UUID, job_id: UUID, after_step: int, limit: int
) -> Sequence[TrainingMetricRow]:
    """The loss of each step after `after_step`, in order.

    Raises:
        NotFound: no such training, or another tenant's.
    """
    job = job_service.get(session, tenant_id=tenant_id, job_id=job_id)
    if job.kind not in KINDS_OF_WORKER[WorkerKind.TRAINING]:
        raise NotFound(f"The job {job_id} is no training, so it has no metrics.")
    return trainings.metrics_of(session, job_id=job_id, after_step=after_step, limit=limit)


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
    # A run that is stopped right after a checkpoint keeps the same step once more.
    session.merge(
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
    if not leases.write(session, job_id=claim.job_id, claim_epoch=claim.claim_epoch, values=values):
        raise OwnershipLost


def newest_checkpoints(session: Session, *, job_id: UUID) -> Sequence[Checkpoint]:
    """Checkpoints to go on from, newest step first; the first whose files verify is the one."""
    return trainings.checkpoints_of(session, job_id=job_id)
