"""On what terms a job is asked for: by whom, under which idempotency key, until when."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core.infra.table import Job
from core.services import job as jobs
from core.services.job import Idempotency


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What every request for a job brings along beside its specification."""

    tenant_id: UUID
    idempotency: Idempotency | None = None
    cancel_after: timedelta | None = None

    def find_replay(self, session: Session) -> Job | None:
        """The job that the same request made before.

        Raises:
            IdempotencyKeyReuse: the key came with another request.
        """
        if self.idempotency is None:
            return None
        return jobs.find_replay(session, tenant_id=self.tenant_id, idempotency=self.idempotency)
