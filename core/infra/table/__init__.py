"""The SQLAlchemy tables, a file per noun; importing this package knows them all.

Tenant 1─n ApiKey, StableDiffusion, Dataset, Job, Artifact, Adapter, UserFeedback
StableDiffusion 1─n UserFeedback 1─n ModelUpdate 1─n TrainingData
Job 1─n Artifact, Checkpoint, TrainingMetric;  Dataset 1─n DatasetImage;  Adapter n─1 ModelUpdate
"""

from core.infra.table.adapter import Adapter
from core.infra.table.base import Base
from core.infra.table.dataset import Dataset, DatasetImage
from core.infra.table.feedback import ModelUpdate, TrainingData, UserFeedback
from core.infra.table.job import Artifact, Job, WorkerPresence, WorkRate
from core.infra.table.stable_diffusion import StableDiffusion
from core.infra.table.tenant import ApiKey, Tenant
from core.infra.table.training import Checkpoint, TrainingMetricRow

__all__ = [
    "Adapter",
    "ApiKey",
    "Artifact",
    "Base",
    "Checkpoint",
    "Dataset",
    "DatasetImage",
    "Job",
    "ModelUpdate",
    "StableDiffusion",
    "Tenant",
    "TrainingData",
    "TrainingMetricRow",
    "UserFeedback",
    "WorkRate",
    "WorkerPresence",
]
