"""A dataset in one request: pictures with captions in a form, or a zip of both."""

import io
import json
from collections.abc import Iterator
from typing import IO
from uuid import UUID

from fastapi import Request
from starlette.datastructures import FormData

from api.form import files, refuse_strangers, texts, validate
from api.runtime import Runtime
from core.domain.dataset import DatasetTitle, UploadSpec
from core.domain.errors import InvalidInput
from core.domain.json_object import unique
from core.infra.archive_file import open_archive
from core.infra.table import Dataset
from core.services import dataset as datasets
from core.services.dataset import Picture

_FIELDS = {"name", "images", "captions", "archive"}


def take_form(runtime: Runtime, form: FormData, *, tenant_id: UUID) -> Dataset:
    """Make a dataset of a form: `name`, and either `archive` or `images` with `captions`.

    `captions` is repeated once for each picture in the same order, or is one JSON object from file name to caption.

    Raises:
        InvalidInput: names every field that is wrong.
    """
    refuse_strangers(form, _FIELDS)
    archives, images = files(form, "archive"), files(form, "images")
    if len(archives) + bool(images) != 1:
        raise InvalidInput.of("images", "give either images with captions, or one archive")
    name = (texts(form, "name") or [""])[-1]
    if archives:
        return take_archive(runtime, archives[0].file, name=name, tenant_id=tenant_id)
    pictures = [
        Picture(f"images.{index}", _upload(index, image.filename or str(index), caption), image.file)
        for index, (image, caption) in enumerate(zip(images, _captions(form), strict=True))
    ]
    return _create(runtime, iter(pictures), name=name, tenant_id=tenant_id)


def _captions(form: FormData) -> list[str]:
    names = [image.filename for image in files(form, "images")]
    captions = texts(form, "captions")
    if len(captions) == 1 and captions[0].lstrip().startswith("{"):
        return _named_captions(captions[0], names)
    if captions and len(captions) != len(names):
        raise InvalidInput.of("captions", f"there are {len(names)} images and {len(captions)} captions")
    return captions or [""] * len(names)


def _named_captions(text: str, names: list[str | None]) -> list[str]:
    try:
        captions = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise InvalidInput.of("captions", "must be one for each image, or a JSON object by file name") from None
    strangers = sorted(set(captions) - set(names), key=str)
    if strangers or not all(isinstance(caption, str) for caption in captions.values()):
        raise InvalidInput.of("captions", "must be a JSON object from the images' file names to captions")
    return [captions.get(name, "") for name in names]


def take_archive(runtime: Runtime, file: IO[bytes], *, name: str, tenant_id: UUID) -> Dataset:
    """Make a dataset of a zip.

    Raises:
        InvalidInput: the archive or a picture in it is not acceptable.
    """

    def pictures() -> Iterator[Picture]:
        for index, member in enumerate(archive.names):
            field = f"archive.{member}"
            yield Picture(field, _upload(index, member, archive.caption(member)), io.BytesIO(archive.read(member)))

    with open_archive(file) as archive:
        return _create(runtime, pictures(), name=name, tenant_id=tenant_id)


def _upload(index: int, file_name: str, caption: str) -> UploadSpec:
    try:
        return validate(UploadSpec, {"file_name": file_name[-255:], "caption": caption})
    except InvalidInput as error:
        raise InvalidInput.of(f"images.{index}", error.message) from None


def _create(runtime: Runtime, pictures: Iterator[Picture], *, name: str, tenant_id: UUID) -> Dataset:
    title = validate(DatasetTitle, {"name": name})
    return datasets.create(
        runtime.database,
        pictures,
        name=title.name,
        tenant_id=tenant_id,
        settings=runtime.settings,
        store=runtime.store,
    )


async def spool(request: Request, file: IO[bytes], *, max_bytes: int) -> None:
    """Write a request's body into a file.

    Raises:
        InvalidInput: it is empty, or has more than `max_bytes`.
    """
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise InvalidInput.of("body", f"may have at most {max_bytes} bytes")
        file.write(chunk)
    if size == 0:
        raise InvalidInput.of("body", "is empty")
    file.seek(0)
