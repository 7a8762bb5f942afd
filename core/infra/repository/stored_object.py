"""Queries that say which of some objects a row refers to."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.domain.dataset import DatasetStatus
from core.domain.job import TERMINAL
from core.infra.table import Adapter, Artifact, Checkpoint, Dataset, DatasetImage, Job, ModelUpdate


def time_before(session: Session, *, age: timedelta) -> datetime:
    """When it was so long ago, by the database's clock: that of an upkeep may be wrong, and many of them differ."""
    return session.scalars(select(func.now() - age)).one()


def named(session: Session, *, keys: Collection[str]) -> set[str]:
    """Those that are a result, an adapter's file, a dataset's picture, or what a job begins with."""
    columns: list[Any] = [Artifact.object_key, Adapter.object_key, Adapter.kohya_object_key, DatasetImage.object_key]
    if any("/init-image/" in key for key in keys):  # a look at every job
        columns.append(Job.plan["init_image_key"].astext)
    return {key for column in columns for key in session.scalars(select(column).where(column.in_(keys)))}


def checkpoints(session: Session, *, prefixes: Collection[str]) -> set[str]:
    """Those of the folders that are a checkpoint."""
    return set(session.scalars(select(Checkpoint.object_prefix).where(Checkpoint.object_prefix.in_(prefixes))))


def jobs_at_work(session: Session, *, job_ids: Collection[UUID]) -> set[UUID]:
    """Those of the jobs that may write files yet."""
    return set(session.scalars(select(Job.id).where(Job.id.in_(job_ids), Job.status.not_in(TERMINAL))))


def trained(session: Session, *, job_ids: Collection[UUID]) -> set[str]:
    """Keys of what the model updates among the jobs have trained, whether it came to an adapter or not."""
    outputs = ModelUpdate.trained["outputs"]
    found = session.scalars(select(outputs).where(ModelUpdate.job_id.in_(job_ids), ModelUpdate.trained.is_not(None)))
    return {each["object_key"] for files in found for each in files}


def open_datasets(session: Session, *, dataset_ids: Collection[UUID]) -> set[UUID]:
    """Those of the datasets that wait for uploads."""
    query = select(Dataset.id).where(Dataset.id.in_(dataset_ids), Dataset.status == DatasetStatus.OPEN)
    return set(session.scalars(query))
