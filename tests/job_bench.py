"""A bench for jobs on the real servers: the verbs of a job's life, each in its own transaction."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core.domain.job import JobKind
from core.domain.limit import UNLIMITED, Limits
from core.domain.outcome import Outcome, Output
from core.infra.database import Database
from core.infra.settings import Settings
from core.infra.table import Job, StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import job as job_service
from core.services import run as run_service
from core.services import upkeep as upkeep_service
from core.services.job import Submission
from core.services.run import Claim, Pulse
from core.services.tenant import create_tenant

KINDS = (JobKind.GENERATION, JobKind.REGISTRATION)
IMAGE = Output(type="image", object_key="job/x/1/output/0.png", content_type="image/png", size_bytes=1, sha256="0" * 64)


@pytest.fixture
def queue(settings: Settings) -> Iterator[TaskQueue]:
    queue = TaskQueue(settings)
    yield queue
    queue.close()


@pytest.fixture
def tenant_id(database: Database) -> UUID:
    with database.transaction() as session:
        return create_tenant(session, name=f"tenant-{uuid4().hex[:8]}").id


@pytest.fixture
def model_id(database: Database, tenant_id: UUID) -> UUID:
    return add_model(database, tenant_id, name="model")


def add_model(database: Database, tenant_id: UUID, *, name: str) -> UUID:
    """A base model's row."""
    with database.transaction() as session:
        model = StableDiffusion(tenant_id=tenant_id, name=name, source="/nowhere", options={}, defaults={})
        session.add(model)
        session.flush()
        return model.id


class JobBench:
    """The verbs of a job, each in its own transaction."""

    def __init__(self, database: Database, queue: TaskQueue, tenant_id: UUID, model_id: UUID) -> None:
        self.database, self.queue, self.tenant_id, self.model_id = database, queue, tenant_id, model_id

    def submission(self, **changes: Any) -> Submission:
        values: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "kind": JobKind.GENERATION,
            "spec": {},
            "plan": {},
            "base_model_id": self.model_id,
            "work_units": 10.0,
        }
        return Submission(**(values | changes))

    def submit(self, *, limits: Limits = UNLIMITED, **changes: Any) -> Job:
        submission = self.submission(**changes)
        with self.database.transaction() as session:
            return job_service.submit(session, submission, queue=self.queue, limits=limits).job

    def claim(
        self, *, lease_seconds: float = 30.0, worker_id: str = "worker", takes_suspects: bool = True
    ) -> Claim | None:
        with self.database.transaction() as session:
            return run_service.claim_next(
                session, kinds=KINDS, worker_id=worker_id, lease_seconds=lease_seconds, takes_suspects=takes_suspects
            )

    def must_claim(self, *, lease_seconds: float = 30.0) -> Claim:
        claim = self.claim(lease_seconds=lease_seconds)
        assert claim is not None
        return claim

    def beat(self, *claims: Claim) -> list[Pulse]:
        with self.database.transaction() as session:
            return run_service.heartbeat(session, [(claim, None) for claim in claims], lease_seconds=30)

    def finish(self, claim: Claim, *outputs: Output) -> None:
        with self.database.transaction() as session:
            run_service.finish(session, claim, Outcome(outputs=list(outputs)))

    def get(self, job_id: UUID) -> Job:
        with self.database.transaction() as session:
            return job_service.get(session, tenant_id=self.tenant_id, job_id=job_id)

    def cancel(self, job_id: UUID) -> Job:
        with self.database.transaction() as session:
            return job_service.cancel(session, tenant_id=self.tenant_id, job_id=job_id)

    def sweep(self, *, stall_seconds: float = 900) -> int:
        with self.database.transaction() as session:
            return upkeep_service.sweep(session, stall_seconds=stall_seconds)

    def ring(self, *, ring_seconds: float = 15) -> int:
        with self.database.transaction() as session:
            return upkeep_service.ring_waiting(session, queue=self.queue, ring_seconds=ring_seconds)

    def execute(self, statement: str, **values: Any) -> None:
        with self.database.transaction() as session:
            session.execute(text(statement), values)

    def make_ready(self, job_id: UUID) -> None:
        self.execute("UPDATE job SET run_after = now() WHERE id = :id", id=job_id)


@pytest.fixture
def bench(database: Database, queue: TaskQueue, tenant_id: UUID, model_id: UUID) -> JobBench:
    return JobBench(database, queue, tenant_id, model_id)
