"""A worker's runtime on the real servers whose leases are short, and handlers that do what each test needs."""

from collections.abc import Callable

import pytest

from core.domain.job import JobKind
from core.domain.outcome import Outcome
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from worker.runner import Run
from worker.runtime import Runtime


@pytest.fixture
def runtime(settings: Settings, database: Database, queue: TaskQueue) -> Runtime:
    quick = settings.model_copy(update={"lease_seconds": 1.2})
    return Runtime(settings=quick, database=database, store=ObjectStore(quick), queue=queue, worker_id="worker")


def handler(work: Callable[[Run], Outcome]) -> dict[JobKind, Callable[[Run, Runtime], Outcome]]:
    return {JobKind.GENERATION: lambda run, _: work(run)}
