"""A row in every table, so that a migration meets data. A new table belongs here too; test_migration says so."""

from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from core.domain.adapter import AdapterStage
from core.domain.base_model import ModelFamily, ModelStatus
from core.domain.dataset import DatasetStatus
from core.domain.feedback import FeedbackKind
from core.domain.job import JobKind, WorkerKind
from core.domain.model_update import Split, TrainingRole
from core.domain.rollout import RolloutKind
from core.infra.table import (
    Adapter,
    ApiKey,
    Artifact,
    Checkpoint,
    Dataset,
    DatasetImage,
    GpuUsage,
    Job,
    LineTurn,
    ModelUpdate,
    Rollout,
    StableDiffusion,
    Tenant,
    TenantLimit,
    TrainingData,
    TrainingExclusion,
    TrainingMetricRow,
    Transition,
    UpdatePolicyRow,
    UpkeepPresence,
    UserFeedback,
    WebhookDelivery,
    WebhookSecret,
    WorkerPresence,
    WorkRate,
)

Row = TypeVar("Row")
DIGEST = "0" * 64


def insert_a_row_of_each_table(engine: sa.Engine, *, name: str = "tenant") -> UUID:
    """Rows of a tenant that refer to each other wherever a foreign key allows it; the tenant's id."""
    with Session(engine) as session, session.begin():
        tenant = _add(session, Tenant(name=name))
        model = _add(session, _model(tenant))
        dataset = _add(session, Dataset(tenant_id=tenant.id, name="d", status=DatasetStatus.READY, digest=DIGEST))
        job = _add(session, _job(tenant, model, dataset))
        image = _add(session, _image(job))
        adapter = _add(session, _adapter(job))
        feedback = _add(session, _feedback(image, adapter))
        update = _add(session, _update(feedback))
        feedback.counted_in_update_id = adapter.model_update_id = update.id
        rollout = _add(session, _rollout(adapter, update))
        feedback.rollout_id = image.rollout_id = rollout.id
        _add_leaves(session, job, dataset, feedback, update)
        return tenant.id


def _add(session: Session, row: Row) -> Row:
    session.add(row)
    session.flush()
    return row


def _model(tenant: Tenant) -> StableDiffusion:
    return StableDiffusion(
        tenant_id=tenant.id,
        name="model",
        source="/nowhere",
        status=ModelStatus.READY,
        family=ModelFamily.SD1,
        options={},
        defaults={},
    )


def _job(tenant: Tenant, model: StableDiffusion, dataset: Dataset) -> Job:
    return Job(
        tenant_id=tenant.id, kind=JobKind.TRAINING, spec={}, plan={}, base_model_id=model.id, dataset_id=dataset.id
    )


def _image(job: Job) -> Artifact:
    return Artifact(
        tenant_id=job.tenant_id,
        job_id=job.id,
        claim_epoch=1,
        position=0,
        type="image",
        object_key=f"job/{job.id}/1/output/0.png",
        content_type="image/png",
        size_bytes=1,
        sha256=DIGEST,
    )


def _adapter(job: Job) -> Adapter:
    return Adapter(
        tenant_id=job.tenant_id,
        base_model_id=job.base_model_id,
        job_id=job.id,
        name="adapter",
        version=1,
        stage=AdapterStage.AVAILABLE,
        rank=4,
        alpha=4.0,
        object_key="adapter",
        sha256=DIGEST,
        size_bytes=1,
        manifest={},
    )


def _feedback(image: Artifact, adapter: Adapter) -> UserFeedback:
    return UserFeedback(
        tenant_id=image.tenant_id,
        stable_diffusion_id=adapter.base_model_id,
        image_id=image.id,
        adapter_id=adapter.id,
        user_ref="user",
        subject=f"label:{image.id}",
        kind=FeedbackKind.THUMB,
        liked=True,
    )


def _update(feedback: UserFeedback) -> ModelUpdate:
    return ModelUpdate(
        tenant_id=feedback.tenant_id,
        stable_diffusion_id=feedback.stable_diffusion_id,
        triggered_by_feedback_id=feedback.id,
    )


def _rollout(adapter: Adapter, update: ModelUpdate) -> Rollout:
    return Rollout(
        tenant_id=adapter.tenant_id,
        stable_diffusion_id=adapter.base_model_id,
        model_update_id=update.id,
        kind=RolloutKind.CANARY,
        challenger_id=adapter.id,
        share=0.1,
    )


def _add_leaves(session: Session, job: Job, dataset: Dataset, feedback: UserFeedback, update: ModelUpdate) -> None:
    session.add_all(
        [
            TenantLimit(tenant_id=job.tenant_id, queued_jobs=5),
            LineTurn(tenant_id=job.tenant_id, worker=WorkerKind.TRAINING, next_place=1.0, taken_by=1),
            GpuUsage(tenant_id=job.tenant_id, hour=sa.func.date_trunc("hour", sa.func.now()), seconds=1.0),
            ApiKey(tenant_id=job.tenant_id, name="key", key_sha256=job.tenant_id.hex * 2),
            WebhookSecret(tenant_id=job.tenant_id, secret="whsec_AAAA"),
            WebhookDelivery(
                tenant_id=job.tenant_id, job_id=job.id, event="start", host="example.com", next_at=sa.func.now()
            ),
            WorkerPresence(id=f"worker:{job.id}", kind=WorkerKind.TRAINING, slots=1),
            UpkeepPresence(id=f"upkeep:{job.id}"),
            WorkRate(base_model_id=job.base_model_id, kind=JobKind.TRAINING, seconds_per_unit=1.0),
            Checkpoint(job_id=job.id, step=1, claim_epoch=1, object_prefix="checkpoint", manifest_sha256=DIGEST),
            TrainingMetricRow(job_id=job.id, step=1, loss=1.0, learning_rate=1.0, gradient_norm=1.0),
            DatasetImage(dataset_id=dataset.id, position=0, file_name="a.png", caption="a", object_key="dataset/a"),
            UpdatePolicyRow(tenant_id=job.tenant_id, stable_diffusion_id=job.base_model_id),
            TrainingExclusion(model_update_id=update.id, feedback_id=feedback.id, rule="cap"),
            Transition(
                tenant_id=job.tenant_id,
                stable_diffusion_id=job.base_model_id,
                model_update_id=update.id,
                after="planned",
                actor="policy",
                reason="enough feedback",
            ),
            TrainingData(
                model_update_id=update.id,
                feedback_id=feedback.id,
                image_id=feedback.image_id,
                prompt="a star",
                role=TrainingRole.LIKED,
                split=Split.TRAIN,
            ),
        ]
    )
