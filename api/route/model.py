"""Base models: register, list, read."""

from uuid import UUID

from fastapi import APIRouter

from api.dependency import Cursor, Limit, RuntimeDep, TenantId, needs
from api.header import CancelAfter, IdempotencyKey, Prefer, read_terms
from api.json_body import StrictRoute
from api.submission import DeskDep
from api.view.job import JobView
from api.view.model import ModelView, view
from api.view.page import Page
from core.domain.api_key import Scope
from core.domain.base_model import BaseModelSpec
from core.services import model as models

router = APIRouter(prefix="/api/models", tags=["base models"], route_class=StrictRoute)


@router.post("", status_code=202, dependencies=[needs(Scope.ADMIN)])
async def register_model(
    spec: BaseModelSpec,
    desk: DeskDep,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
    prefer: Prefer = None,
) -> JobView:
    """Register a base model from a folder, an `s3://` prefix or a hub. A worker checks it; this is that job."""
    terms = read_terms(desk.tenant_id, spec, idempotency_key=idempotency_key, cancel_after=cancel_after)
    runtime = desk.runtime
    return await desk.hand_in(
        lambda session: models.request(session, spec, terms, settings=runtime.settings, queue=runtime.queue),
        prefer=prefer,
    )


@router.get("")
def list_models(runtime: RuntimeDep, tenant_id: TenantId, limit: Limit = 20, cursor: Cursor = None) -> Page[ModelView]:
    """The base models that you may use, newest first."""
    with runtime.database.transaction(tenant_id) as session:
        found, next_cursor = models.list_page(session, tenant_id=tenant_id, limit=limit, cursor=cursor)
        return Page(items=[view(model, tenant_id=tenant_id) for model in found], next_cursor=next_cursor)


@router.get("/{model_id}")
def read_model(model_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> ModelView:
    """One base model."""
    with runtime.database.transaction(tenant_id) as session:
        return view(models.get(session, tenant_id=tenant_id, model_id=model_id), tenant_id=tenant_id)
