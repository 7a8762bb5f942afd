"""What a real engine holds: said with the worker's sign of life, and preferred when it claims."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.holding import NOTHING
from core.domain.job import JobKind, WorkerKind
from core.domain.outcome import Outcome
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.table import StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import census
from tests.job_bench import JobBench
from tests.tiny_pipeline import save_sd
from worker.poller import Poller
from worker.runner import Run, run_next
from worker.runtime import Runtime


@pytest.fixture
def runtime(settings: Settings, database: Database, queue: TaskQueue) -> Runtime:
    quick = settings.model_copy(update={"device": "cpu"})
    return Runtime(settings=quick, database=database, store=ObjectStore(quick), queue=queue, worker_id="worker")


@pytest.fixture
def warm(runtime: Runtime, model_id: UUID, tmp_path: Path) -> Iterator[Runtime]:
    """A worker whose engine has the bench's model in memory."""
    handle = ModelHandle(model_id, "model", str(save_sd(tmp_path / "sd")), None, LoadOptions())
    runtime.engine.inspect(handle, on_file=lambda: None, should_stop=lambda: False)
    yield runtime
    runtime.engine.close()


def say_alive_once(runtime: Runtime) -> None:
    runtime.draining.set()
    Poller(runtime, kind=WorkerKind.GENERATION, slots=4, work=lambda: False).run(pool=None)
    runtime.draining.clear()


def live(database: Database) -> list[census.LiveWorker]:
    with database.transaction() as session:
        return list(census.live_workers(session))


def test_a_worker_without_an_engine_makes_none_to_say_what_it_holds(runtime: Runtime) -> None:
    say_alive_once(runtime)
    [worker] = live(runtime.database)
    assert (worker.id, worker.slots, worker.holds) == ("worker", 4, NOTHING)
    assert "engine" not in vars(runtime)


def test_a_sign_of_life_says_what_the_engine_holds_now(warm: Runtime, model_id: UUID) -> None:
    say_alive_once(warm)
    [worker] = live(warm.database)
    assert worker.holds.models == {model_id: "model"}
    assert set(worker.holds.adapters) == {"host", "device"}
    assert worker.holds == warm.holding()


@pytest.fixture
def other_id(bench: JobBench) -> UUID:
    """A base model that no worker holds."""
    with bench.database.transaction() as session:
        model = StableDiffusion(tenant_id=bench.tenant_id, name="other", source="/nowhere", options={}, defaults={})
        session.add(model)
        session.flush()
        return model.id


def test_a_worker_takes_a_job_of_a_model_that_it_holds_first(bench: JobBench, warm: Runtime, other_id: UUID) -> None:
    bench.submit(base_model_id=other_id)
    bench.submit()
    seen: list[str] = []

    def handle(run: Run, _: Runtime) -> Outcome:
        seen.append(run.model.name)
        return Outcome()

    while run_next(warm, {JobKind.GENERATION: handle}):
        pass
    assert seen == ["model", "other"]
