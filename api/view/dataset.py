"""A dataset as its owner sees it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from api.link import Link
from core.domain.dataset import DatasetStatus
from core.domain.retention import Retention
from core.infra.table import Dataset, DatasetImage


class DatasetImageView(BaseModel):
    """A picture of a dataset. Sizes and digest are null until it was checked."""

    file_name: str
    caption: str
    sha256: str | None
    width: int | None
    height: int | None


class UploadView(BaseModel):
    """PUT the picture's bytes to `url` before `expires_at`; no key is needed there."""

    file_name: str
    method: Literal["PUT"] = "PUT"
    url: str
    expires_at: datetime


class DatasetUrls(BaseModel):
    self: str
    complete: str | None


class DatasetSummary(BaseModel):
    """A dataset without its pictures; `digest` is over pictures and captions in order."""

    id: UUID
    name: str
    status: DatasetStatus
    digest: str | None
    num_images: int
    created_at: datetime
    expires_at: datetime | None = Field(description="when it is removed unless it is complete by then; null once it is")
    urls: DatasetUrls


class DatasetView(DatasetSummary):
    """A dataset with its pictures. `uploads` is what is still to be sent, then POST to `urls.complete`."""

    images: list[DatasetImageView]
    uploads: list[UploadView]


def summary(dataset: Dataset, link: Link, *, num_images: int, retention: Retention) -> DatasetSummary:
    """A dataset of a list as JSON."""
    self = link.to(f"/api/datasets/{dataset.id}")
    is_open = dataset.status == DatasetStatus.OPEN
    return DatasetSummary(
        id=dataset.id,
        name=dataset.name,
        status=DatasetStatus(dataset.status),
        digest=dataset.digest,
        num_images=num_images,
        created_at=dataset.created_at,
        expires_at=dataset.created_at + retention.of_open_dataset if is_open else None,
        urls=DatasetUrls(self=self, complete=f"{self}/complete" if is_open else None),
    )


def view(dataset: Dataset, link: Link, *, retention: Retention) -> DatasetView:
    """A dataset with its pictures loaded, as JSON."""
    is_open = dataset.status == DatasetStatus.OPEN
    return DatasetView(
        **dict(summary(dataset, link, num_images=len(dataset.images), retention=retention)),
        images=[DatasetImageView.model_validate(image, from_attributes=True) for image in dataset.images],
        uploads=[_upload(image, link) for image in dataset.images] if is_open else [],
    )


def _upload(image: DatasetImage, link: Link) -> UploadView:
    path = f"/api/datasets/{image.dataset_id}/uploads/{image.position}"
    file = link.upload(path)
    return UploadView(file_name=image.file_name, url=file.url, expires_at=file.expires_at)
