"""Jobs: list, read, cancel."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.dependency import CallerDep, Cursor, Limit, LinkDep, RuntimeDep, TenantId, require_scope_of
from api.json_body import StrictRoute
from api.submission import show
from api.view.job import JobView, view
from api.view.page import Page
from core.domain.job import JobKind, JobStatus
from core.services import job as jobs

router = APIRouter(prefix="/api/jobs", tags=["jobs"], route_class=StrictRoute)


@router.get("")
def list_jobs(
    runtime: RuntimeDep,
    tenant_id: TenantId,
    link: LinkDep,
    status: Annotated[JobStatus | None, Query()] = None,
    kind: Annotated[JobKind | None, Query()] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[JobView]:
    """Your jobs, newest first."""
    retention = runtime.settings.retention
    with runtime.database.transaction(tenant_id) as session:
        found, next_cursor = jobs.list_page(
            session, tenant_id=tenant_id, status=status, kind=kind, limit=limit, cursor=cursor
        )
        kept = jobs.kept_among(session, found)
        items = [view(job, link, retention=retention, kept=kept, outlook=jobs.outlook(session, job)) for job in found]
    return Page(items=items, next_cursor=next_cursor)


@router.get("/{job_id}")
def read_job(job_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> JobView:
    """One job as it is now."""
    return show(runtime, link, tenant_id=tenant_id, job_id=job_id)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: UUID, runtime: RuntimeDep, caller: CallerDep, link: LinkDep) -> JobView:
    """End a job that waits at once, and a running one at its next step; a finished one stays as it is.

    The key needs the scope that such a job is submitted with.
    """
    with runtime.database.transaction(caller.tenant_id) as session:
        require_scope_of(caller, jobs.get(session, tenant_id=caller.tenant_id, job_id=job_id))
        job = jobs.cancel(session, tenant_id=caller.tenant_id, job_id=job_id)
        return view(job, link, retention=runtime.settings.retention, kept=jobs.kept_among(session, [job]))
