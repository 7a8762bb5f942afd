"""Adapters of waiting jobs come near before their turn."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.generation import ResolvedAdapter
from core.domain.job import JobStatus
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.table import StableDiffusion
from core.infra.task_queue import TaskQueue
from tests.job_bench import JobBench
from tests.tiny_adapter import save_peft, targets_of, tune
from tests.tiny_pipeline import save_sd
from worker.engine.pipeline import load_pipeline
from worker.prefetcher import Prefetcher
from worker.runtime import Runtime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_sd(tmp_path / "sd")


@pytest.fixture
def runtime(
    settings: Settings, database: Database, queue: TaskQueue, tmp_path: Path, model_id: UUID, folder: Path
) -> Iterator[Runtime]:
    with database.transaction() as session:
        session.get_one(StableDiffusion, model_id).source = str(folder)
    own = settings.model_copy(update={"device": "cpu", "data_dir": tmp_path})
    runtime = Runtime(settings=own, database=database, store=ObjectStore(own), queue=queue, worker_id="worker")
    yield runtime
    runtime.engine.close()


@pytest.fixture
def adapter(runtime: Runtime, folder: Path, tmp_path: Path) -> ResolvedAdapter:
    """In the store."""
    pipeline = load_pipeline(folder, LoadOptions())
    file = save_peft(tmp_path / "adapter.safetensors", tune(pipeline, targets_of(pipeline), seed=1, r=2))
    content = file.read_bytes()
    runtime.store.put("adapter", content, content_type="application/octet-stream")
    sha256 = hashlib.sha256(content).hexdigest()
    return ResolvedAdapter(
        id="1", name="a", version=1, sha256=sha256, object_key="adapter", weight=1.0, text_encoder_weight=1.0
    )


def plan(*adapters: ResolvedAdapter) -> dict[str, object]:
    named = [adapter.model_dump() for adapter in adapters]
    return {
        "prompt": "a star",
        "negative_prompt": "",
        "model": "model",
        "width": 64,
        "height": 64,
        "steps": 2,
        "guidance_scale": 1.0,
        "seed": 1,
        "num_images": 1,
        "scheduler": "ddim",
        "adapters": named,
        "output_format": "png",
    }


def cached(runtime: Runtime) -> int:
    return len(list((runtime.settings.cache_dir / "adapter").glob("*.safetensors")))


def test_of_a_model_that_is_not_in_memory_the_files_come_to_the_disk(
    bench: JobBench, runtime: Runtime, adapter: ResolvedAdapter
) -> None:
    job = bench.submit(plan=plan(adapter))
    Prefetcher(runtime, jobs_ahead=4).look()
    assert cached(runtime) == 1
    assert runtime.holding().adapters["host"].adapters == 0
    assert bench.get(job.id).status == JobStatus.QUEUED, "to look is not to claim"


def test_of_a_model_that_is_they_come_into_memory(
    bench: JobBench, runtime: Runtime, adapter: ResolvedAdapter, model_id: UUID, folder: Path
) -> None:
    handle = ModelHandle(model_id, "model", str(folder), None, LoadOptions())
    runtime.engine.inspect(handle, on_file=lambda: None, should_stop=lambda: False)
    bench.submit(plan=plan(adapter))
    Prefetcher(runtime, jobs_ahead=4).look()
    assert runtime.holding().adapters["host"].adapters == 1


def test_what_stays_in_line_is_asked_for_once_and_a_file_that_is_gone_stops_nothing(
    bench: JobBench, runtime: Runtime, adapter: ResolvedAdapter
) -> None:
    gone = adapter.model_copy(update={"sha256": "0" * 64, "object_key": "gone"})
    bench.submit(plan=plan(gone, adapter))
    prefetcher = Prefetcher(runtime, jobs_ahead=4)
    prefetcher.look()
    assert cached(runtime) == 1
    for file in (runtime.settings.cache_dir / "adapter").glob("*.safetensors"):
        file.unlink()
    prefetcher.look()
    assert cached(runtime) == 0
    Prefetcher(runtime, jobs_ahead=0).look()
    assert cached(runtime) == 0
