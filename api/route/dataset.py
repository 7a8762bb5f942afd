"""Datasets: upload in one request or picture by picture, list, read, delete."""

import tempfile
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from api.dependency import Cursor, IsSigned, Limit, LinkDep, RuntimeDep, TenantId, needs
from api.form import media_type, read_form, validate_json
from api.json_body import StrictRequest, StrictRoute, is_json
from api.link import Link
from api.runtime import Runtime
from api.upload import spool, take_archive, take_form
from api.view.dataset import DatasetSummary, DatasetView, summary, view
from api.view.page import Page
from core.domain.api_key import Scope
from core.domain.dataset import MAX_IMAGES, DatasetSpec
from core.domain.errors import Unauthorized
from core.services import dataset as datasets

router = APIRouter(prefix="/api/datasets", tags=["datasets"], route_class=StrictRoute)
_SPOOLED_BYTES = 2**20
_FORM = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "captions": {
            "type": "array",
            "items": {"type": "string"},
            "description": "one for each image in the same order, or one JSON object from file name to caption",
        },
        "archive": {"type": "string", "format": "binary", "description": "instead of images: a zip of them"},
    },
    "additionalProperties": False,
}
_SPEC = DatasetSpec.model_json_schema()
_SPEC["properties"]["images"]["items"] = _SPEC.pop("$defs")["UploadSpec"]  # a reference would point out of the document
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": _SPEC},
        },
    }
}
_PICTURE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("", status_code=201, openapi_extra=_BODY, dependencies=[needs(Scope.TRAIN)])
async def create_dataset(
    request: Request,
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    response: Response,
    name: Annotated[str, Query(description="of the dataset, where the body is a zip")] = "",
) -> DatasetView:
    """Make a dataset: of pictures in a form, of a zip, or empty with a URL to upload each picture to.

    A zip holds pictures with captions in .txt files of the same name, in `metadata.jsonl` or in `captions.json`.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        async with read_form(request) as form:
            dataset = await runtime.uploads.do(tenant_id, take_form, runtime, form, tenant_id=tenant_id)
            shown = await run_in_threadpool(_show, runtime, link, tenant_id, dataset.id)
    elif kind in ("application/zip", "application/x-zip-compressed"):
        with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as file:
            await spool(request, file, max_bytes=runtime.settings.max_body_bytes)
            dataset = await runtime.uploads.do(tenant_id, take_archive, runtime, file, name=name, tenant_id=tenant_id)
        shown = await run_in_threadpool(_show, runtime, link, tenant_id, dataset.id)
    elif is_json(kind):
        assert isinstance(request, StrictRequest)
        spec = validate_json(DatasetSpec, await request.json())
        shown = await run_in_threadpool(_open, runtime, link, spec, tenant_id)
    else:
        raise HTTPException(415, "Send multipart/form-data, application/zip or application/json.")
    response.headers["Location"] = shown.urls.self
    return shown


def _open(runtime: Runtime, link: Link, spec: DatasetSpec, tenant_id: UUID) -> DatasetView:
    with runtime.database.transaction(tenant_id) as session:
        dataset = datasets.open_for_uploads(session, spec, tenant_id=tenant_id)
        return view(dataset, link, retention=runtime.settings.retention)


def _show(runtime: Runtime, link: Link, tenant_id: UUID, dataset_id: UUID) -> DatasetView:
    with runtime.database.transaction(tenant_id) as session:
        dataset = datasets.get(session, tenant_id=tenant_id, dataset_id=dataset_id)
        return view(dataset, link, retention=runtime.settings.retention)


@router.put("/{dataset_id}/uploads/{position}", status_code=204, openapi_extra=_PICTURE)
async def upload_picture(
    request: Request,
    dataset_id: UUID,
    position: Annotated[int, Path(ge=0, lt=MAX_IMAGES)],
    runtime: RuntimeDep,
    is_signed: IsSigned,
) -> None:
    """Take a picture at the URL that its dataset gave for it. It is checked when the dataset is completed."""
    if not is_signed:
        raise Unauthorized("This needs the signed URL from the dataset's `uploads`.")
    tenant_id = await run_in_threadpool(_owner_of_upload, runtime, dataset_id, position)
    request.state.tenant_id = tenant_id  # whose part of the room for bodies it takes
    with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as file:
        await spool(request, file, max_bytes=min(datasets.MAX_PICTURE_BYTES, runtime.settings.max_body_bytes))

        def put() -> None:
            with runtime.database.transaction(tenant_id) as session:
                _, key = datasets.upload_place(session, dataset_id=dataset_id, position=position)
            runtime.store.put(key, file, content_type="application/octet-stream")

        await runtime.uploads.do(tenant_id, put)


def _owner_of_upload(runtime: Runtime, dataset_id: UUID, position: int) -> UUID:
    with runtime.database.transaction(None) as session:
        return datasets.upload_place(session, dataset_id=dataset_id, position=position)[0]


@router.post("/{dataset_id}/complete", dependencies=[needs(Scope.TRAIN)])
async def complete_dataset(dataset_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> DatasetView:
    """Check the uploaded pictures and freeze the dataset; it is ready for trainings then."""
    await runtime.uploads.do(
        tenant_id,
        datasets.complete,
        runtime.database,
        tenant_id=tenant_id,
        dataset_id=dataset_id,
        settings=runtime.settings,
        store=runtime.store,
    )
    return await run_in_threadpool(_show, runtime, link, tenant_id, dataset_id)


@router.get("")
def list_datasets(
    runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, limit: Limit = 20, cursor: Cursor = None
) -> Page[DatasetSummary]:
    """Your datasets, newest first."""
    retention = runtime.settings.retention
    with runtime.database.transaction(tenant_id) as session:
        found, counts, next_cursor = datasets.list_page(session, tenant_id=tenant_id, limit=limit, cursor=cursor)
        items = [summary(dataset, link, num_images=counts.get(dataset.id, 0), retention=retention) for dataset in found]
    return Page(items=items, next_cursor=next_cursor)


@router.get("/{dataset_id}")
def read_dataset(dataset_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> DatasetView:
    """One dataset with its pictures."""
    return _show(runtime, link, tenant_id, dataset_id)


@router.delete("/{dataset_id}", status_code=204, dependencies=[needs(Scope.TRAIN)])
def delete_dataset(dataset_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> None:
    """Forget a dataset that no unfinished training reads."""
    with runtime.database.transaction(tenant_id) as session:
        datasets.delete(session, tenant_id=tenant_id, dataset_id=dataset_id, store=runtime.store)
