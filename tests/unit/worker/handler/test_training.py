import json
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image

from core.domain import object_key
from core.domain.adapter import AdapterManifest
from core.domain.dataset import DatasetItem, DatasetManifest, DatasetStatus
from core.domain.errors import (
    DatasetUnusable,
    JobCanceled,
    JobFailure,
    JobInterrupted,
    JobStopped,
    OwnershipLost,
    Unavailable,
)
from core.domain.job import JobKind
from core.domain.outcome import Outcome
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.repository import training as trainings
from core.infra.settings import Settings
from core.infra.table import Dataset, DatasetImage, Job, StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import run as run_service
from core.services.run import Claim
from core.services.tenant import create_tenant
from tests.training_bench import make_examples, make_pipeline, make_plan
from worker.handler import training
from worker.runner import Run
from worker.runtime import Runtime
from worker.training.checkpoint import digest_file


class Bench:
    """A base model, a dataset of five pictures, and training jobs on them."""

    def __init__(
        self, settings: Settings, database: Database, store: ObjectStore, queue: TaskQueue, folder: Path
    ) -> None:
        self.database, self.store = database, store
        self.runtime = Runtime(settings, database, store, queue, worker_id="worker")
        make_pipeline().save_pretrained(folder / "model")
        self.examples = make_examples(folder / "picture")
        with database.transaction() as session:
            self.tenant_id = create_tenant(session, name="t").id
            model = StableDiffusion(
                tenant_id=self.tenant_id, name="m", source=str(folder / "model"), options={}, defaults={}
            )
            session.add(model)
            session.flush()
            self.model_id = model.id
        self.dataset_id, self.digest = self._make_dataset()

    def _make_dataset(self) -> tuple[UUID, str]:
        dataset_id = uuid4()
        items = []
        for example in self.examples:
            sha256 = digest_file(example.path)
            key = object_key.dataset_image(dataset_id=dataset_id, sha256=sha256)
            self.store.upload(example.path, key)
            items.append(DatasetItem(object_key=key, sha256=sha256, caption=example.caption, width=64, height=64))
        digest = DatasetManifest(items=tuple(items)).digest
        with self.database.transaction() as session:
            session.add(
                Dataset(id=dataset_id, tenant_id=self.tenant_id, name="d", status=DatasetStatus.READY, digest=digest)
            )
            session.flush()
            for position, item in enumerate(items):
                session.add(
                    DatasetImage(dataset_id=dataset_id, position=position, file_name="x.png", **item.model_dump())
                )
        return dataset_id, digest

    def submit(self, **changes: Any) -> UUID:
        plan = make_plan(dataset_id=self.dataset_id, **changes).model_copy(update={"dataset_digest": self.digest})
        with self.database.transaction() as session:
            job = Job(
                tenant_id=self.tenant_id,
                kind=JobKind.TRAINING,
                spec={},
                plan=plan.model_dump(mode="json"),
                base_model_id=self.model_id,
                dataset_id=self.dataset_id,
                work_units=1.0,
            )
            session.add(job)
            session.flush()
            return job.id

    def claim(self) -> Claim:
        with self.database.transaction() as session:
            claim = run_service.claim_next(session, kinds=(JobKind.TRAINING,), worker_id="worker", lease_seconds=60)
        assert claim is not None
        return claim

    def give_back(self, claim: Claim) -> None:
        with self.database.transaction() as session:
            run_service.give_back(session, claim, delay=timedelta(0))

    def metrics(self, job_id: UUID) -> dict[int, float]:
        with self.database.transaction() as session:
            return {m.step: m.loss for m in trainings.metrics_of(session, job_id=job_id, after_step=0, limit=1000)}

    def checkpoint_steps(self, job_id: UUID) -> list[int]:
        with self.database.transaction() as session:
            return [checkpoint.step for checkpoint in trainings.checkpoints_of(session, job_id=job_id)]


@pytest.fixture
def make_bench(
    settings: Settings, database: Database, store: ObjectStore, queue: TaskQueue, tmp_path: Path
) -> Callable[..., Bench]:
    def make(**changes: Any) -> Bench:
        return Bench(settings.model_copy(update=changes), database, store, queue, tmp_path)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


class EventfulRun(Run):
    """A run to which something happens while it draws the samples of a step."""

    def __init__(self, claim: Claim, bench: Bench, *, at_step: int = 0, event: Callable[[Run], None] | None = None):
        super().__init__(claim, bench.runtime)
        self.at_step, self.event = at_step, event
        self.messages: list[str] = []

    def report(self, *, step: int, steps: int, message: str) -> None:
        super().report(step=step, steps=steps, message=message)
        self.messages.append(message)
        if self.event is not None and step == self.at_step and message == "drawing samples":
            self.event(self)


class Killed(BaseException):
    """As good as a kill: nothing of ours catches it."""


def drain(run: Run) -> None:
    run._runtime.draining.set()


def cancel(run: Run) -> None:
    run._lease.stop = JobCanceled()


def kill(run: Run) -> None:
    raise Killed


RUN: dict[str, Any] = {"steps": 6, "sample_every": 2, "augment": {"flip": 0.5}, "trigger_word": "zorp"}


def digests(outcome: Outcome) -> dict[str, str]:
    return {output.object_key.rsplit("/", 1)[1]: output.sha256 for output in outcome.outputs}


def test_a_training_stores_its_adapter_its_samples_and_its_losses(bench: Bench) -> None:
    job_id = bench.submit(**RUN)
    run = EventfulRun(bench.claim(), bench)
    outcome = training.handle(run, bench.runtime)
    assert [output.type for output in outcome.outputs] == ["adapter", "adapter_kohya", *["sample"] * 12, "manifest"]
    for output in outcome.outputs:
        body = bench.store.get(output.object_key)
        assert len(body) == output.size_bytes and output.object_key.startswith(f"job/{job_id}/1/output/")
        if output.type == "sample":
            assert Image.open(BytesIO(body)).size == (output.width, output.height) == (32, 32)
        if output.type == "manifest":
            assert AdapterManifest.model_validate(json.loads(body)) == outcome.adapter
        if output.type == "adapter":
            assert outcome.adapter is not None and outcome.adapter.sha256 == output.sha256
    assert list(bench.metrics(job_id)) == [1, 2, 3, 4, 5, 6]
    assert "encoding picture 5 of 5" in run.messages
    assert list((bench.runtime.settings.data_dir / "work").iterdir()) == []
    finish(bench, run.claim, outcome)


def test_a_drained_training_goes_on_from_its_checkpoint_and_gives_the_same_files(bench: Bench) -> None:
    bench.submit(**RUN)
    undisturbed = training.handle(EventfulRun(bench.claim(), bench), bench.runtime)
    job_id = bench.submit(**RUN)
    run = EventfulRun(bench.claim(), bench, at_step=4, event=drain)
    with pytest.raises(JobStopped):
        training.handle(run, bench.runtime)
    assert isinstance(run.stop_reason, JobInterrupted) and bench.checkpoint_steps(job_id) == [4]
    bench.runtime.draining.clear()
    bench.give_back(run.claim)
    resumed = EventfulRun(bench.claim(), bench)
    outcome = training.handle(resumed, bench.runtime)
    assert digests(outcome) == digests(undisturbed)  # the samples of steps 2 and 4 among them
    assert sum(message == "drawing samples" for message in resumed.messages) == 1


def test_a_killed_training_goes_on_from_the_newest_whole_checkpoint(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(checkpoint_seconds=1e-9)
    bench.submit(**RUN)
    undisturbed = training.handle(EventfulRun(bench.claim(), bench), bench.runtime)
    job_id = bench.submit(**RUN)
    run = EventfulRun(bench.claim(), bench, at_step=6, event=kill)
    with pytest.raises(Killed):
        training.handle(run, bench.runtime)
    assert bench.checkpoint_steps(job_id) == [5, 4]
    stored = {key for key, _ in bench.store.list(f"job/{job_id}/1/checkpoint/")}
    assert {key.split("/")[4] for key in stored} == {"4", "5"}
    bench.store.put(
        object_key.checkpoint(job_id=job_id, claim_epoch=1, step=5, name="optimizer.safetensors"),
        b"not what was written",
        content_type="x",
    )
    bench.give_back(run.claim)
    again = EventfulRun(bench.claim(), bench)
    outcome = training.handle(again, bench.runtime)
    assert digests(outcome) == digests(undisturbed)
    assert list(bench.metrics(job_id)) == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_leaves_the_disk_once_it_is_stored_or_given_up(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(checkpoint_seconds=1e-9)
    job_id = bench.submit(**RUN)
    left: list[str] = []
    run = EventfulRun(bench.claim(), bench, at_step=4)

    def look_and_lose_the_store(_: Run) -> None:
        left.extend(path.name for path in (bench.runtime.settings.data_dir / "work").glob("*/checkpoint/*"))
        closed = bench.runtime.settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})
        bench.runtime.store, run.at_step = ObjectStore(closed), 6

    run.event = look_and_lose_the_store
    with pytest.raises(Unavailable):
        training.handle(run, bench.runtime)
    assert bench.checkpoint_steps(job_id) == [3, 2]
    assert left == []


def test_a_canceled_training_stops_and_keeps_nothing(bench: Bench) -> None:
    job_id = bench.submit(**RUN)
    run = EventfulRun(bench.claim(), bench, at_step=2, event=cancel)
    with pytest.raises(JobStopped):
        training.handle(run, bench.runtime)
    assert bench.checkpoint_steps(job_id) == []
    assert list(bench.store.list(f"job/{job_id}/")) == []


def test_a_run_that_lost_its_claim_writes_nothing_more(bench: Bench) -> None:
    job_id = bench.submit(**RUN)
    run = EventfulRun(bench.claim(), bench)
    bench.give_back(run.claim)
    with pytest.raises(OwnershipLost):
        training.handle(run, bench.runtime)
    assert bench.metrics(job_id) == {}


def test_a_picture_that_changed_or_went_ends_the_job(bench: Bench) -> None:
    key = object_key.dataset_image(dataset_id=bench.dataset_id, sha256=digest_file(bench.examples[2].path))
    bench.submit(**RUN)
    claim = bench.claim()
    bench.store.put(key, b"another", content_type="image/png")
    with pytest.raises(DatasetUnusable, match="Picture 2"):
        training.handle(EventfulRun(claim, bench), bench.runtime)
    bench.store.delete(key)
    with pytest.raises(DatasetUnusable, match="Picture 2"):
        training.handle(EventfulRun(claim, bench), bench.runtime)


def test_a_target_that_the_model_lacks_ends_the_job(bench: Bench) -> None:
    bench.submit(target_modules=("to_nowhere",))
    with pytest.raises(JobFailure, match="to_nowhere"):
        training.handle(EventfulRun(bench.claim(), bench), bench.runtime)


def finish(bench: Bench, claim: Claim, outcome: Outcome) -> None:
    with bench.database.transaction() as session:
        run_service.finish(session, claim, outcome)
