"""Datasets: accept pictures with captions, freeze them, show, delete."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from core.domain import object_key
from core.domain.dataset import DatasetItem, DatasetManifest, DatasetSpec, DatasetStatus, UploadSpec
from core.domain.errors import Conflict, InvalidInput, NotFound
from core.domain.problem_list import ProblemList
from core.infra.database import Database
from core.infra.image_file import MAX_BYTES, check_image
from core.infra.object_store import ObjectStore
from core.infra.repository import dataset as datasets
from core.infra.settings import Settings
from core.infra.table import Dataset, DatasetImage
from core.services.removal import remove, remove_after_commit

MAX_PICTURE_BYTES = MAX_BYTES


@dataclass(frozen=True)
class Picture:
    """A picture as it arrives. `field` names its place in the request."""

    field: str
    upload: UploadSpec
    file: IO[bytes]


def create(
    database: Database,
    pictures: Iterable[Picture],
    *,
    name: str,
    tenant_id: UUID,
    settings: Settings,
    store: ObjectStore,
) -> Dataset:
    """Check and store pictures, then make them a dataset that is ready. Opens its transaction when all are stored.

    From then on the files stay, whatever comes: a commit whose answer was lost may have happened. What really belongs
    to no dataset is an orphan, and goes as such.

    Raises:
        InvalidInput: names every picture that is not one.
        Unavailable: the object store or the database is away.
    """
    dataset = Dataset(id=uuid4(), tenant_id=tenant_id, name=name, status=DatasetStatus.READY)
    problems, items, rows = ProblemList(), [], []
    try:
        for position, picture in enumerate(pictures):
            with problems.gather(field=picture.field):
                caption = picture.upload.caption
                item = _store_picture(picture.file, caption, dataset.id, settings=settings, store=store)
                items.append(item)
                rows.append(_row(dataset.id, position, picture.upload, item))
        problems.raise_any()
        _check_any(rows)
    except BaseException:
        remove(store, prefix=object_key.dataset_prefix(dataset_id=dataset.id))
        raise
    dataset.digest = DatasetManifest(items=tuple(items)).digest
    with database.transaction(tenant_id) as session:
        session.add(dataset)
        session.flush()
        session.add_all(rows)
    return dataset


def _check_any(rows: list[DatasetImage]) -> None:
    if not rows:
        raise InvalidInput.of("images", "give at least one picture")


def _store_picture(
    file: IO[bytes], caption: str, dataset_id: UUID, *, settings: Settings, store: ObjectStore
) -> DatasetItem:
    checked = check_image(file, max_kept_pixels=settings.max_pixels)
    key = object_key.dataset_image(dataset_id=dataset_id, sha256=checked.sha256)
    store.put(key, checked.png, content_type="image/png")
    return DatasetItem(
        object_key=key, sha256=checked.sha256, caption=caption, width=checked.width, height=checked.height
    )


def _row(dataset_id: UUID, position: int, upload: UploadSpec, item: DatasetItem) -> DatasetImage:
    return DatasetImage(
        dataset_id=dataset_id,
        position=position,
        file_name=upload.file_name,
        caption=item.caption,
        object_key=item.object_key,
        sha256=item.sha256,
        width=item.width,
        height=item.height,
    )


def open_for_uploads(session: Session, spec: DatasetSpec, *, tenant_id: UUID) -> Dataset:
    """Make a dataset whose pictures the client uploads next, each to the key of its position."""
    dataset = Dataset(id=uuid4(), tenant_id=tenant_id, name=spec.name, status=DatasetStatus.OPEN)
    dataset.images = [
        DatasetImage(
            position=position,
            file_name=upload.file_name,
            caption=upload.caption,
            object_key=object_key.dataset_upload(dataset_id=dataset.id, name=str(position)),
        )
        for position, upload in enumerate(spec.images)
    ]
    session.add(dataset)
    session.flush()
    return dataset


def upload_place(session: Session, *, dataset_id: UUID, position: int) -> tuple[UUID, str]:
    """Whose open dataset it is, and the key where its picture is to be put.

    Raises:
        NotFound: no such picture, or the dataset is complete.
    """
    place = datasets.upload_place(session, dataset_id=dataset_id, position=position)
    if place is None:
        raise NotFound("There is no picture to be uploaded here; the dataset may be complete.")
    return place


def complete(
    database: Database, *, tenant_id: UUID, dataset_id: UUID, settings: Settings, store: ObjectStore
) -> Dataset:
    """Check what was uploaded and freeze it; a dataset that is complete stays as it is.

    The pictures are read between two transactions, so that none is held open meanwhile.

    Raises:
        NotFound: no such dataset, or another tenant's.
        InvalidInput: names every picture that is missing or is not one.
        Unavailable: the object store or the database is away.
    """
    with database.transaction(tenant_id) as session:
        dataset = get(session, tenant_id=tenant_id, dataset_id=dataset_id)
    if dataset.status == DatasetStatus.READY:
        return dataset
    problems, items = ProblemList(), []
    for image in dataset.images:
        with problems.gather(field=f"images.{image.position}"):
            items.append(_check_upload(image, settings=settings, store=store))
    problems.raise_any()
    with database.transaction(tenant_id) as session:
        return _freeze(session, items, tenant_id=tenant_id, dataset_id=dataset_id, store=store)


def _check_upload(image: DatasetImage, *, settings: Settings, store: ObjectStore) -> DatasetItem:
    size = store.size(image.object_key)
    if size is None:
        raise InvalidInput.of("image", f"{image.file_name} has not been uploaded")
    if size > MAX_PICTURE_BYTES:
        raise InvalidInput.of("image", f"{image.file_name} has more than {MAX_PICTURE_BYTES} bytes")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        store.download(image.object_key, path)
        with path.open("rb") as file:
            return _store_picture(file, image.caption, image.dataset_id, settings=settings, store=store)


def _freeze(
    session: Session, items: Sequence[DatasetItem], *, tenant_id: UUID, dataset_id: UUID, store: ObjectStore
) -> Dataset:
    dataset = datasets.by_id(session, tenant_id=tenant_id, dataset_id=dataset_id, for_update=True)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    if dataset.status == DatasetStatus.READY:  # completed by another request meanwhile
        return dataset
    for image, item in zip(dataset.images, items, strict=True):
        image.object_key, image.sha256 = item.object_key, item.sha256
        image.width, image.height = item.width, item.height
    dataset.status, dataset.digest = DatasetStatus.READY, DatasetManifest(items=tuple(items)).digest
    remove_after_commit(session, store, prefix=object_key.dataset_upload(dataset_id=dataset_id, name=""))
    return dataset


def get(session: Session, *, tenant_id: UUID, dataset_id: UUID) -> Dataset:
    """A tenant's dataset with its pictures.

    Raises:
        NotFound: no such dataset, or another tenant's.
    """
    dataset = datasets.by_id(session, tenant_id=tenant_id, dataset_id=dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset


def list_page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[Sequence[Dataset], Mapping[UUID, int], str | None]:
    """A tenant's datasets, newest first, how many pictures each has, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    found, next_cursor = datasets.page(session, tenant_id=tenant_id, limit=limit, cursor=cursor)
    return found, datasets.count_images(session, dataset_ids=[dataset.id for dataset in found]), next_cursor


def delete(session: Session, *, tenant_id: UUID, dataset_id: UUID, store: ObjectStore) -> None:
    """Forget a dataset and its pictures; adapters trained on it keep its digest.

    Raises:
        NotFound: no such dataset, or another tenant's.
        Conflict: a training that has not ended reads it.
    """
    dataset = datasets.by_id(session, tenant_id=tenant_id, dataset_id=dataset_id, for_update=True)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    if datasets.is_in_use(session, dataset_id=dataset_id):
        raise Conflict("A training that has not ended reads this dataset; cancel it, or wait for its end.")
    datasets.remove(session, dataset_id=dataset_id)
    remove_after_commit(session, store, prefix=object_key.dataset_prefix(dataset_id=dataset_id))
