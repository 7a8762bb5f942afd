"""Webhooks: what a job's was told, tell it again; the secret that signs."""

from uuid import UUID

from fastapi import APIRouter

from api.dependency import CallerDep, RuntimeDep, TenantId, needs, require_scope_of
from api.json_body import StrictRoute
from api.view.page import Page
from api.view.webhook import DeliveryView, SecretView, view_delivery, view_secret
from core.domain.api_key import Scope
from core.services import job as jobs
from core.services import webhook as webhooks
from core.services import webhook_secret as secrets

router = APIRouter(prefix="/api", tags=["webhooks"], route_class=StrictRoute)


@router.get("/jobs/{job_id}/webhooks")
def list_deliveries(job_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> Page[DeliveryView]:
    """What the job's webhook was told so far, and what came of it; there are never more than a page of them."""
    with runtime.database.transaction(tenant_id) as session:
        found = webhooks.of_job(session, tenant_id=tenant_id, job_id=job_id)
        return Page(items=[view_delivery(each) for each in found], next_cursor=None)


@router.post("/jobs/{job_id}/webhooks/{delivery_id}/replay")
def replay_delivery(job_id: UUID, delivery_id: UUID, runtime: RuntimeDep, caller: CallerDep) -> DeliveryView:
    """Tell it again, under the same `webhook-id` and in a fresh round of tries.

    The key needs the scope that such a job is submitted with.
    """
    with runtime.database.transaction(caller.tenant_id) as session:
        require_scope_of(caller, jobs.get(session, tenant_id=caller.tenant_id, job_id=job_id))
        again = webhooks.replay(session, tenant_id=caller.tenant_id, job_id=job_id, delivery_id=delivery_id)
        return view_delivery(again)


@router.get("/webhook-secret", dependencies=[needs(Scope.ADMIN)])
def read_secret(runtime: RuntimeDep, tenant_id: TenantId) -> SecretView:
    """What your webhooks are signed with."""
    with runtime.database.transaction(tenant_id) as session:
        return view_secret(secrets.get(session, tenant_id=tenant_id))


@router.post("/webhook-secret/rotate", dependencies=[needs(Scope.ADMIN)])
def rotate_secret(runtime: RuntimeDep, tenant_id: TenantId) -> SecretView:
    """Make a new secret. For a day the old one signs too, so that receivers can change over."""
    with runtime.database.transaction(tenant_id) as session:
        return view_secret(secrets.rotate(session, tenant_id=tenant_id))
