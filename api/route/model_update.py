"""Model updates: start one, follow it, see what it was made from and what was found out, let it serve or not."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import HTMLResponse
from starlette.responses import StreamingResponse

from api.dependency import Cursor, Limit, LinkDep, RuntimeDep, TenantId, needs
from api.file_response import stream_file
from api.header import IdempotencyKey, read_terms
from api.json_body import StrictRoute
from api.link import Link
from api.runtime import Runtime
from api.view.image import file_link, file_name
from api.view.model_update import (
    ModelUpdateView,
    ReportView,
    TrainingDataView,
    data_view,
    report_page,
    report_view,
    view,
)
from api.view.page import Page
from api.view.report_page import POLICY, render
from core.domain.api_key import Scope
from core.domain.model_update import UpdateRequest
from core.domain.rollout import MoveSpec
from core.domain.value import Text
from core.infra.table import ModelUpdate
from core.services import model_update as updates
from core.services import update_account as accounts

router = APIRouter(prefix="/api/model-updates", tags=["learning"], route_class=StrictRoute)
_HTML = "text/html"
ModelName = Annotated[Text | None, Query(max_length=100, description="id or name of a base model")]


@router.post("", status_code=202, dependencies=[needs(Scope.ADMIN)])
def start_update(
    request: UpdateRequest,
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> ModelUpdateView:
    """Train on the feedback that there is now, whatever the policy waits for."""
    terms = read_terms(tenant_id, request, idempotency_key=idempotency_key, cancel_after=None)
    settings = runtime.settings
    with runtime.database.transaction(tenant_id) as session:
        model = updates.find_model(session, tenant_id=tenant_id, named=request.model, settings=settings)
        update = updates.trigger(
            session, tenant_id=tenant_id, model_id=model.id, terms=terms, queue=runtime.queue, settings=settings
        )
    shown = _show(runtime, link, update)
    response.headers["Location"] = shown.urls.self
    return shown


@router.get("")
def list_updates(
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    model: ModelName = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ModelUpdateView]:
    """Your model updates, newest first."""
    with runtime.database.transaction(tenant_id) as session:
        of = updates.find_model(session, tenant_id=tenant_id, named=model, settings=runtime.settings) if model else None
        found, next_cursor = updates.list_page(
            session, tenant_id=tenant_id, model_id=of.id if of else None, limit=limit, cursor=cursor
        )
        return Page(items=[view(each, link) for each in accounts.tell(session, found)], next_cursor=next_cursor)


@router.get("/{update_id}")
def read_update(update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> ModelUpdateView:
    """One update: why it started, how far it is, what became of it."""
    with runtime.database.transaction(tenant_id) as session:
        update = updates.get(session, tenant_id=tenant_id, update_id=update_id)
    return _show(runtime, link, update)


@router.post("/{update_id}/approve", dependencies=[needs(Scope.ADMIN)])
def approve_update(
    update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, spec: MoveSpec | None = None
) -> ModelUpdateView:
    """Let a candidate that waits for approval serve: on a share of requests first, where the policy says so."""
    reason = (spec or MoveSpec()).reason
    with runtime.database.transaction(tenant_id) as session:
        update = updates.approve(session, tenant_id=tenant_id, update_id=update_id, reason=reason)
    return _show(runtime, link, update)


@router.post("/{update_id}/reject", dependencies=[needs(Scope.ADMIN)])
def reject_update(
    update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, spec: MoveSpec | None = None
) -> ModelUpdateView:
    """Turn down a candidate that waits for approval, or a canary."""
    reason = (spec or MoveSpec()).reason
    with runtime.database.transaction(tenant_id) as session:
        update = updates.reject(session, tenant_id=tenant_id, update_id=update_id, reason=reason)
    return _show(runtime, link, update)


@router.post("/{update_id}/cancel", dependencies=[needs(Scope.ADMIN)])
def cancel_update(
    update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, spec: MoveSpec | None = None
) -> ModelUpdateView:
    """End an update that is in flight; one that has ended stays as it is."""
    reason = (spec or MoveSpec()).reason
    with runtime.database.transaction(tenant_id) as session:
        update = updates.cancel(session, tenant_id=tenant_id, update_id=update_id, reason=reason)
    return _show(runtime, link, update)


@router.get("/{update_id}/training-data")
def read_training_data(
    update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, limit: Limit = 20, cursor: Cursor = None
) -> TrainingDataView:
    """The frozen rows of an update, and for all other feedback the rule that left it out."""
    with runtime.database.transaction(tenant_id) as session:
        update = updates.get(session, tenant_id=tenant_id, update_id=update_id)
        return data_view(accounts.training_data(session, update, limit=limit, cursor=cursor))


@router.get("/{update_id}/report", response_model=ReportView, responses={200: {"content": {_HTML: {}}}})
def read_report(
    update_id: UUID,
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    accept: Annotated[str, Header(max_length=1000)] = "",
) -> ReportView | Response:
    """What was found out about the candidate; as a page for those who accept `text/html`."""
    if _HTML in accept:
        return read_report_page(update_id, runtime, tenant_id)
    with runtime.database.transaction(tenant_id) as session:
        update = updates.get(session, tenant_id=tenant_id, update_id=update_id)
        [account] = accounts.tell(session, [update])
        sheet = accounts.sheet_of(session, update)
        url = file_link(sheet, link).url if sheet else None
        return report_view(account, accounts.findings(session, update), link, contact_sheet=url)


@router.get("/{update_id}/report.html", response_class=HTMLResponse)
def read_report_page(update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> HTMLResponse:
    """The report as one page that needs no network."""
    with runtime.database.transaction(tenant_id) as session:
        update = updates.get(session, tenant_id=tenant_id, update_id=update_id)
        [account] = accounts.tell(session, [update])
        findings, sheet = accounts.findings(session, update), accounts.sheet_of(session, update)
    page = render(report_page(account, findings, runtime.store.get(sheet.object_key) if sheet else None))
    return HTMLResponse(
        page, headers={"Content-Security-Policy": f"sandbox; {POLICY}", "X-Content-Type-Options": "nosniff"}
    )


@router.get("/{update_id}/model-card", response_class=Response)
def read_model_card(update_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> StreamingResponse:
    """The model card of the candidate, as Markdown."""
    with runtime.database.transaction(tenant_id) as session:
        update = updates.get(session, tenant_id=tenant_id, update_id=update_id)
        card = accounts.file_of(session, update, kind="model_card")
    return stream_file(
        runtime.store,
        card.object_key,
        content_type=f"{card.content_type}; charset=utf-8",
        file_name=file_name(card),
        size_bytes=card.size_bytes,
        sha256=card.sha256,
    )


def _show(runtime: Runtime, link: Link, update: ModelUpdate) -> ModelUpdateView:
    """An update as it is after the commit."""
    with runtime.database.transaction(update.tenant_id) as session:
        update = updates.get(session, tenant_id=update.tenant_id, update_id=update.id)
        [account] = accounts.tell(session, [update])
        return view(account, link, transitions=updates.transitions_of(session, update))
