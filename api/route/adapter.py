"""Adapters: import, list, read, delete, and their files."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile
from starlette.responses import StreamingResponse

from api.dependency import Cursor, Limit, LinkDep, Reader, RuntimeDep, TenantId, needs
from api.file_response import stream_file
from api.form import files, read_form, refuse_strangers, texts, validate
from api.json_body import StrictRoute
from api.runtime import Runtime
from api.view.adapter import FILES, AdapterView, view
from api.view.page import Page
from core.domain.adapter import AdapterManifest, AdapterSpec
from core.domain.api_key import Scope
from core.domain.errors import InvalidInput, NotFound
from core.domain.value import Name
from core.infra.table import Adapter
from core.services import adapter as adapters
from core.services.removal import removed_if_refused

router = APIRouter(prefix="/api/adapters", tags=["adapters"], route_class=StrictRoute)
_FORM = {
    "type": "object",
    "required": ["name", "file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "a LoRA as .safetensors"},
        "name": {"type": "string"},
        "description": {"type": "string"},
        "base_model": {"type": "string", "description": "name of a base model; the default one if left out"},
        "trigger_word": {"type": "string"},
        "alpha": {"type": "number", "description": "for files that do not tell theirs, such as PEFT's"},
    },
    "additionalProperties": False,
}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post("", status_code=201, openapi_extra=_BODY, dependencies=[needs(Scope.TRAIN)])
async def import_adapter(
    request: Request, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, response: Response
) -> AdapterView:
    """Import a LoRA whose tensors are named as diffusers, PEFT or kohya do; it is checked against its base model."""
    async with read_form(request) as form:
        refuse_strangers(form, {*AdapterSpec.model_fields, "file"})
        spec = validate(AdapterSpec, {name: texts(form, name)[-1] for name in form if name != "file"})
        uploads = files(form, "file")
        if len(uploads) != 1:
            raise InvalidInput.of("file", "give exactly one file")
        adapter = await runtime.uploads.do(tenant_id, _import, runtime, spec, uploads[0], tenant_id)
    shown = view(adapter, link)
    response.headers["Location"] = shown.urls.self
    return shown


def _import(runtime: Runtime, spec: AdapterSpec, upload: UploadFile, tenant_id: UUID) -> Adapter:
    with runtime.database.transaction(tenant_id) as session:
        target = adapters.fit_target(session, spec, tenant_id=tenant_id, settings=runtime.settings)
    stored = adapters.store_file(upload.file, target, spec, tenant_id=tenant_id, store=runtime.store)
    kept = removed_if_refused(runtime.store, prefix=stored.prefix)
    with kept, runtime.database.transaction(tenant_id) as session:
        return adapters.register(session, spec, stored, target, tenant_id=tenant_id)


@router.get("")
def list_adapters(
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    name: Annotated[Name | None, Query()] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[AdapterView]:
    """Your adapters, newest first."""
    with runtime.database.transaction(tenant_id) as session:
        found, next_cursor = adapters.list_page(session, tenant_id=tenant_id, name=name, limit=limit, cursor=cursor)
        return Page(items=[view(adapter, link) for adapter in found], next_cursor=next_cursor)


@router.get("/{adapter_id}")
def read_adapter(adapter_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> AdapterView:
    """One adapter with its manifest."""
    with runtime.database.transaction(tenant_id) as session:
        return view(adapters.get(session, tenant_id=tenant_id, adapter_id=adapter_id), link)


@router.delete("/{adapter_id}", status_code=204, dependencies=[needs(Scope.TRAIN)])
def delete_adapter(adapter_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> None:
    """Forget an adapter that no unfinished job uses."""
    with runtime.database.transaction(tenant_id) as session:
        adapters.delete(session, tenant_id=tenant_id, adapter_id=adapter_id, store=runtime.store)


@router.get("/{adapter_id}/manifest")
def read_manifest(adapter_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> AdapterManifest:
    """What the adapter is and where it comes from, as the file that goes with it."""
    with runtime.database.transaction(tenant_id) as session:
        adapter = adapters.get(session, tenant_id=tenant_id, adapter_id=adapter_id)
    return AdapterManifest.model_validate(adapter.manifest)


@router.get("/{adapter_id}/files/{form}", response_class=Response)
def read_file(
    adapter_id: UUID, form: Literal["diffusers", "kohya"], runtime: RuntimeDep, reader: Reader
) -> StreamingResponse:
    """The weights, for a key or by a signed URL."""
    with runtime.database.transaction(reader) as session:
        adapter = adapters.find(session, adapter_id=adapter_id, tenant_id=reader)
    key = adapter.object_key if form == "diffusers" else adapter.kohya_object_key
    size = runtime.store.size(key) if key else None
    if key is None or size is None:
        raise NotFound(f"{adapter.ref} has no {form} file.")
    name, content_type = FILES[form]
    file_name = f"{adapter.name}-{adapter.version}-{name}"
    tag = f"{adapter.sha256}-{form}"
    return stream_file(runtime.store, key, content_type=content_type, file_name=file_name, size_bytes=size, sha256=tag)
