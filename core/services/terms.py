"""On what terms a job is asked for: by whom, under which idempotency key, until when, how urgently."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.job import JobPriority
from core.services import job as jobs
from core.services.job import Accepted, Idempotency


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What every request for a job brings along beside its specification."""

    tenant_id: UUID
    idempotency: Idempotency | None = None
    cancel_after: timedelta | None = None
    priority: JobPriority = JobPriority.NORMAL

    def find_replay(self, session: Session) -> Accepted | None:
        """The job that the same request made before.

        Raises:
            IdempotencyKeyReuse: the key came with another request.
        """
        if self.idempotency is None:
            return None
        job = jobs.find_replay(session, tenant_id=self.tenant_id, idempotency=self.idempotency)
        return None if job is None else jobs.accepted(session, job)
