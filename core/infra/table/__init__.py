"""The SQLAlchemy tables, a file per noun; importing this package knows them all.

Tenant 1─1 TenantLimit, WebhookSecret;  Tenant 1─n ApiKey, GpuUsage, LineTurn
Tenant 1─n StableDiffusion, Dataset, Job, Artifact, Adapter, UserFeedback
StableDiffusion 1─n UserFeedback 1─n ModelUpdate 1─n TrainingData, TrainingExclusion
StableDiffusion 1─n UpdatePolicyRow, Rollout, Transition
Job 1─n Artifact, Checkpoint, TrainingMetric, WebhookDelivery;  Dataset 1─n DatasetImage;  Adapter n─1 ModelUpdate
"""

from core.infra.table.adapter import Adapter
from core.infra.table.base import Base
from core.infra.table.dataset import Dataset, DatasetImage
from core.infra.table.feedback import ModelUpdate, TrainingData, TrainingExclusion, UpdatePolicyRow, UserFeedback
from core.infra.table.job import Artifact, Job, UpkeepPresence, WorkerPresence, WorkRate
from core.infra.table.rollout import Rollout, Transition
from core.infra.table.stable_diffusion import StableDiffusion
from core.infra.table.tenant import ApiKey, GpuUsage, LineTurn, Tenant, TenantLimit
from core.infra.table.training import Checkpoint, TrainingMetricRow
from core.infra.table.webhook import WebhookDelivery, WebhookSecret

__all__ = [
    "Adapter",
    "ApiKey",
    "Artifact",
    "Base",
    "Checkpoint",
    "Dataset",
    "DatasetImage",
    "GpuUsage",
    "Job",
    "LineTurn",
    "ModelUpdate",
    "Rollout",
    "StableDiffusion",
    "Tenant",
    "TenantLimit",
    "TrainingData",
    "TrainingExclusion",
    "TrainingMetricRow",
    "Transition",
    "UpdatePolicyRow",
    "UpkeepPresence",
    "UserFeedback",
    "WebhookDelivery",
    "WebhookSecret",
    "WorkRate",
    "WorkerPresence",
]
