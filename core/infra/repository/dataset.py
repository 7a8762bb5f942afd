"""Queries on datasets and their pictures."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session, selectinload

from core.domain.dataset import DatasetStatus
from core.infra.repository.job import ACTIVE
from core.infra.repository.page import newest_first
from core.infra.table import Dataset, DatasetImage, Job


def by_id(session: Session, *, tenant_id: UUID, dataset_id: UUID, for_update: bool = False) -> Dataset | None:
    """A tenant's dataset with its pictures."""
    query = select(Dataset).where(Dataset.id == dataset_id, Dataset.tenant_id == tenant_id)
    query = query.options(selectinload(Dataset.images))
    return session.scalars(query.with_for_update() if for_update else query).one_or_none()


def hold(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> Dataset | None:
    """A tenant's dataset without its pictures; it stays until the commit."""
    query = select(Dataset).where(Dataset.id == dataset_id, Dataset.tenant_id == tenant_id)
    return session.scalars(query.with_for_update(read=True, key_share=True)).one_or_none()


def page(session: Session, *, tenant_id: UUID, limit: int, cursor: str | None) -> tuple[Sequence[Dataset], str | None]:
    """A tenant's datasets without their pictures, newest first."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id)
    return newest_first(session, query, Dataset, limit=limit, cursor=cursor)


def count_images(session: Session, *, dataset_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """Pictures of each dataset; one without pictures is left out."""
    query = select(DatasetImage.dataset_id, func.count()).where(DatasetImage.dataset_id.in_(dataset_ids))
    return {row[0]: row[1] for row in session.execute(query.group_by(DatasetImage.dataset_id))}


def upload_place(session: Session, *, dataset_id: UUID, position: int) -> tuple[UUID, str] | None:
    """The tenant of an open dataset, and the key where its picture is to be put; None where none is to be uploaded."""
    query = select(Dataset.tenant_id, DatasetImage.object_key).join(DatasetImage).where(Dataset.id == dataset_id)
    row = session.execute(query.where(DatasetImage.position == position, DatasetImage.sha256.is_(None))).one_or_none()
    return row and (row[0], row[1])


def is_in_use(session: Session, *, dataset_id: UUID) -> bool:
    """Whether a training that has not ended reads it."""
    return bool(session.scalar(select(exists().where(Job.dataset_id == dataset_id, ACTIVE))))


def abandoned(session: Session, *, older_than: timedelta, limit: int) -> Sequence[UUID]:
    """Locked datasets that were opened for uploads so long ago and never completed."""
    is_old = Dataset.created_at < func.now() - older_than
    query = select(Dataset.id).where(Dataset.status == DatasetStatus.OPEN, is_old).limit(limit)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def remove(session: Session, *, dataset_id: UUID) -> None:
    """Delete a dataset with its pictures; ended jobs forget it, their adapters keep its digest."""
    session.execute(update(Job).where(Job.dataset_id == dataset_id).values(dataset_id=None))
    session.execute(delete(Dataset).where(Dataset.id == dataset_id))
