"""How every request for a job is answered: at once with 202, or with 200 and the finished job for those who wait."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.dependency import LinkDep, RuntimeDep, TenantId
from api.header import wait_seconds
from api.link import Link
from api.runtime import Runtime
from api.view.job import JobView, view
from core.services import job as jobs
from core.services.job import Accepted
from core.services.removal import removed_if_refused


@dataclass(frozen=True)
class Desk:
    """Where one request's job is handed in. `response` is the answer that is being made."""

    runtime: Runtime
    link: Link
    tenant_id: UUID
    response: Response

    async def hand_in(
        self, submit: Callable[[Session], Accepted], *, prefer: str | None, stored: str | None = None
    ) -> JobView:
        """Submit in one transaction, wait where the caller would, and show the job as it then is.

        `stored` is the key of what was stored for the request; it goes where the request is refused.
        """
        job = await run_in_threadpool(self._submitted, submit, stored)
        self.response.headers["Location"] = job.urls.self
        if seconds := wait_seconds(prefer):
            await self.runtime.watch.wait(job.id, seconds=seconds)
            job = await run_in_threadpool(show, self.runtime, self.link, tenant_id=self.tenant_id, job_id=job.id)
            if job.completed_at is not None:
                self.response.status_code = 200
                self.response.headers["Preference-Applied"] = f"wait={seconds}"
        return job

    def _submitted(self, submit: Callable[[Session], Accepted], stored: str | None) -> JobView:
        kept = removed_if_refused(self.runtime.store, prefix=stored)
        with kept, self.runtime.database.transaction(self.tenant_id) as session:
            accepted = submit(session)
            stays = jobs.kept_among(session, [accepted.job])
        retention = self.runtime.settings.retention
        return view(accepted.job, self.link, retention=retention, kept=stays, outlook=accepted.outlook)


def show(runtime: Runtime, link: Link, *, tenant_id: UUID, job_id: UUID) -> JobView:
    """A tenant's job as it is now.

    Raises:
        NotFound: no such job, or another tenant's.
    """
    with runtime.database.transaction(tenant_id) as session:
        job = jobs.get(session, tenant_id=tenant_id, job_id=job_id)
        outlook = jobs.outlook(session, job)
        kept = jobs.kept_among(session, [job])
        return view(job, link, retention=runtime.settings.retention, kept=kept, outlook=outlook)


async def get_desk(runtime: RuntimeDep, link: LinkDep, tenant_id: TenantId, response: Response) -> Desk:
    """The desk of this request."""
    return Desk(runtime, link, tenant_id, response)


DeskDep = Annotated[Desk, Depends(get_desk)]
