import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from safetensors.torch import load_file

from core.domain.job import JobKind, JobStatus
from core.domain.outcome import Outcome
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.table import Job, StableDiffusion
from tests.job_bench import JobBench
from tests.model_bench import REVISION
from tests.poison import checkpoint, pickled
from worker.handler import registration
from worker.runner import Run, run_next
from worker.runtime import Runtime

HANDLERS = {JobKind.REGISTRATION: registration.handle}


@pytest.fixture
def folder(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "model"))


@pytest.fixture
def model_id(database: Database, tenant_id: UUID, folder: Path) -> UUID:
    with database.transaction() as session:
        model = StableDiffusion(tenant_id=tenant_id, name="tiny", source=str(folder), options={}, defaults={"steps": 9})
        session.add(model)
        session.flush()
        return model.id


def run(bench: JobBench, runtime: Runtime) -> tuple[Job, StableDiffusion]:
    job = bench.submit(kind=JobKind.REGISTRATION)
    assert run_next(runtime, HANDLERS)
    with bench.database.transaction() as session:
        return bench.get(job.id), session.get_one(StableDiffusion, bench.model_id)


def test_a_good_model_is_ready_afterwards(bench: JobBench, runtime: Runtime) -> None:
    job, model = run(bench, runtime)
    assert job.status == JobStatus.SUCCEEDED
    assert (model.status, model.family) == ("ready", "sd1")
    assert (model.defaults["width"], model.defaults["steps"]) == (32, 9)
    assert model.modules["unet.conv_in"] == [16, 4, 3, 3]


def test_a_model_in_the_object_store(bench: JobBench, runtime: Runtime, store: ObjectStore, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, f"model/{path.relative_to(folder)}")
    bench.execute("UPDATE stable_diffusion SET source = :source", source=f"s3://{store.bucket}/model")
    assert run(bench, runtime)[1].status == "ready"


def test_a_model_that_failed_is_fetched_anew_when_it_is_registered_again(
    bench: JobBench, runtime: Runtime, store: ObjectStore, folder: Path
) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, f"model/{path.relative_to(folder)}")
    weights = "vae/diffusion_pytorch_model.safetensors"
    store.put(f"model/{weights}", b"broken", content_type="application/octet-stream")
    bench.execute("UPDATE stable_diffusion SET source = :source", source=f"s3://{store.bucket}/model")
    assert run(bench, runtime)[1].status == "failed"
    assert not [path for path in runtime.settings.model_cache_dir.iterdir() if path.is_dir()]
    store.upload(folder / weights, f"model/{weights}")
    assert run(bench, runtime)[1].status == "ready"


def test_a_model_that_is_too_large_fails_with_the_limit(
    bench: JobBench, runtime: Runtime, store: ObjectStore, folder: Path
) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, f"model/{path.relative_to(folder)}")
    bench.execute("UPDATE stable_diffusion SET source = :source", source=f"s3://{store.bucket}/model")
    small = replace(runtime, settings=runtime.settings.model_copy(update={"max_model_bytes": 1000}))
    job, model = run(bench, small)
    assert (job.error_code, model.status) == ("model_unusable", "failed")
    assert "MAX_MODEL_BYTES" in str(model.status_reason)


def test_a_hub_that_is_away_fails_a_registration_with_the_reason(
    bench: JobBench, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    bench.execute("UPDATE stable_diffusion SET source = 'owner/name', revision = :revision", revision=REVISION)
    job, model = run(bench, runtime)
    assert (job.status, job.error_code, model.status) == (JobStatus.FAILED, "model_unusable", "failed")
    assert "The hub does not give owner/name" in str(model.status_reason)


def test_a_worker_that_drains_gives_a_registration_back(bench: JobBench, runtime: Runtime) -> None:
    def drained(run: Run, runtime: Runtime) -> Outcome:
        runtime.draining.set()
        return registration.handle(run, runtime)

    job = bench.submit(kind=JobKind.REGISTRATION)
    assert run_next(runtime, {JobKind.REGISTRATION: drained})
    back = bench.get(job.id)
    assert (back.status, back.interrupt_count, back.crash_count, back.attempt) == (JobStatus.QUEUED, 1, 0, 0)
    with bench.database.transaction() as session:
        assert session.get_one(StableDiffusion, bench.model_id).status == "checking"
    runtime.draining.clear()
    assert run_next(runtime, HANDLERS)
    assert bench.get(job.id).status == JobStatus.SUCCEEDED


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def swap(file: Path, name: str, content: bytes) -> None:
    """Put a file of other content, under another name, in the place of a file."""
    file.unlink()
    (file.parent / name).write_bytes(content)


def shard(file: Path, content: bytes) -> None:
    """Name a file of other content, in the list of a part's shards, as what has all its weights."""
    names = list(load_file(file))
    shards = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "weights.txt")}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(shards))
    swap(file, "weights.txt", content)
    file.with_name("decoy.safetensors").touch()


MARK = "mark"
UNET, TEXT = "unet/diffusion_pytorch_model", "text_encoder/model"
POISONED: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "weights as .bin only": (
        lambda folder, poison: swap(folder / f"{UNET}.safetensors", "diffusion_pytorch_model.bin", poison),
        f"{UNET}.bin may run code",
    ),
    "weights as .ckpt only": (
        lambda folder, poison: swap(folder / f"{UNET}.safetensors", "model.ckpt", poison),
        "unet/model.ckpt may run code",
    ),
    "weights as .pt beside the safe ones": (
        lambda folder, poison: (folder / "text_encoder" / "pytorch_model.pt").write_bytes(poison),
        "text_encoder/pytorch_model.pt may run code",
    ),
    "weights under a name that nobody knows": (
        lambda folder, poison: swap(folder / f"{UNET}.safetensors", "diffusion_pytorch_model.weights", poison),
        "unet has no .safetensors weights",
    ),
    "a pickle that is called safe": (
        lambda folder, poison: swap(folder / f"{UNET}.safetensors", "diffusion_pytorch_model.safetensors", poison),
        "unet cannot be loaded",
    ),
    "a pickle that is called safe, for transformers": (
        lambda folder, poison: swap(folder / f"{TEXT}.safetensors", "model.safetensors", poison),
        "text_encoder cannot be loaded",
    ),
    "a pickle that a list of shards names": (
        lambda folder, poison: shard(folder / f"{UNET}.safetensors", poison),
        f"{UNET}.safetensors.index.json names 'weights.txt'",
    ),
    "a pickle that a list of shards names, for transformers": (
        lambda folder, poison: shard(folder / f"{TEXT}.safetensors", poison),
        f"{TEXT}.safetensors.index.json names 'weights.txt'",
    ),
}


@pytest.mark.parametrize("make", [pickled, checkpoint])
@pytest.mark.parametrize("what", POISONED)
def test_a_model_that_could_run_code_is_refused_and_runs_none(
    bench: JobBench, runtime: Runtime, folder: Path, tmp_path: Path, what: str, make: Callable[[Path], bytes]
) -> None:
    poison, reason = POISONED[what]
    poison(folder, make(tmp_path / MARK))
    job, model = run(bench, runtime)
    assert (job.status, job.error_code, model.status) == (JobStatus.FAILED, "model_unusable", "failed")
    assert reason in str(model.status_reason)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("make", [pickled, checkpoint])
def test_that_poison_would_have_run(tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    (tmp_path / "model.bin").write_bytes(make(tmp_path / MARK))
    program = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "model.bin"], check=False, capture_output=True)
    assert (tmp_path / MARK).exists()


BROKEN: dict[str, Callable[[Path], None]] = {
    "model_index.json": lambda folder: (folder / "model_index.json").unlink(),
    "unet/old.bin": lambda folder: (folder / "unet" / "old.bin").touch(),
    "vae cannot be loaded": lambda folder: cut(folder / "vae" / "diffusion_pytorch_model.safetensors"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_bad_model_fails_with_the_reason(bench: JobBench, runtime: Runtime, folder: Path, reason: str) -> None:
    BROKEN[reason](folder)
    job, model = run(bench, runtime)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "model_unusable")
    assert model.status == "failed"
    assert model.status_reason is not None
    assert reason in model.status_reason
