import hashlib
import io
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from core.domain.generation import GenerationPlan
from core.domain.job import JobKind, JobStatus
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.table import Adapter, Job, Rollout
from tests.job_bench import JobBench
from tests.tiny_pipeline import save_lora
from worker.engine.receipt import read_receipt
from worker.handler import generation
from worker.runner import run_next
from worker.runtime import Runtime

HANDLERS = {JobKind.GENERATION: generation.handle}


def plan(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "prompt": "a large red star",
        "negative_prompt": "",
        "model": "tiny",
        "width": 32,
        "height": 32,
        "steps": 3,
        "guidance_scale": 3.0,
        "seed": 7,
        "num_images": 1,
        "scheduler": "ddim",
        "output_format": "png",
    }
    return GenerationPlan.model_validate(fields | changes).model_dump(mode="json")


def run(bench: JobBench, runtime: Runtime, **changes: Any) -> Job:
    job = bench.submit(plan=plan(**changes))
    assert run_next(runtime, HANDLERS)
    return bench.get(job.id)


@pytest.fixture
def adapter(store: ObjectStore, sd_folder: Path, tmp_path: Path) -> dict[str, Any]:
    file = save_lora(tmp_path / "a.safetensors", sd_folder).read_bytes()
    store.put("tenant/adapter", file, content_type="application/octet-stream")
    digest = hashlib.sha256(file).hexdigest()
    return {"id": "17", "name": "style", "version": 2, "sha256": digest, "object_key": "tenant/adapter",
            "weight": 0.8, "text_encoder_weight": 0.8}  # fmt: skip


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_images_are_stored_with_their_receipts(
    bench: JobBench, runtime: Runtime, store: ObjectStore, output_format: str
) -> None:
    job = run(bench, runtime, num_images=2, output_format=output_format)
    assert job.status == JobStatus.SUCCEEDED
    assert job.progress_step == job.progress_steps
    for index, artifact in enumerate(job.artifacts):
        assert artifact.object_key == f"job/{job.id}/1/output/{index}.{output_format}"
        file = store.get(artifact.object_key)
        assert hashlib.sha256(file).hexdigest() == artifact.sha256
        assert (len(file), artifact.content_type) == (artifact.size_bytes, f"image/{output_format}")
        assert (artifact.width, artifact.height, artifact.seed) == (32, 32, 7 + index)
        assert len(artifact.perceptual_hash or "") == 192
        receipt = read_receipt(file)
        assert receipt.plan is not None
        assert (receipt.plan.seed, receipt.plan.num_images) == (7 + index, 1)


def test_a_receipt_makes_the_same_file_again(
    bench: JobBench, runtime: Runtime, store: ObjectStore, adapter: dict[str, Any]
) -> None:
    first = run(bench, runtime, num_images=2, adapters=[adapter]).artifacts[1]
    receipt = read_receipt(store.get(first.object_key)).plan
    assert receipt is not None
    again = run(bench, runtime, **receipt.model_dump(mode="json")).artifacts[0]
    assert again.sha256 == first.sha256


def test_an_adapter_changes_its_own_image_only(bench: JobBench, runtime: Runtime, adapter: dict[str, Any]) -> None:
    before = run(bench, runtime).artifacts[0]
    adapted = run(bench, runtime, adapters=[adapter]).artifacts[0]
    after = run(bench, runtime).artifacts[0]
    assert before.sha256 == after.sha256 != adapted.sha256
    assert before.adapters == []
    assert adapted.adapters == [{"id": "17", "name": "style", "version": 2, "weight": 0.8, "text_encoder_weight": 0.8}]


def test_each_picture_of_a_comparison_is_the_one_its_receipt_draws_alone(
    bench: JobBench, runtime: Runtime, store: ObjectStore, adapter: dict[str, Any], rollout_id: UUID
) -> None:
    arms = ["incumbent", "challenger", "challenger", "incumbent"]
    assignment = {"rollout_id": str(rollout_id), "arms": arms, "challenger": [adapter]}
    job = run(bench, runtime, num_images=4, assignment=assignment)
    assert job.progress_step == job.progress_steps
    assert [image.arm for image in job.artifacts] == arms
    assert {image.rollout_id for image in job.artifacts} == {rollout_id}
    for index, image in enumerate(job.artifacts):
        receipt = read_receipt(store.get(image.object_key)).plan
        assert receipt is not None
        assert (receipt.seed, receipt.num_images, receipt.assignment) == (7 + index, 1, None)
        assert [each.id for each in receipt.adapters] == [each["id"] for each in image.adapters]
        assert len(image.adapters) == (arms[index] == "challenger")
        again = run(bench, runtime, **receipt.model_dump(mode="json")).artifacts[0]
        assert again.sha256 == image.sha256


@pytest.fixture
def rollout_id(database: Database, tenant_id: UUID, model_id: UUID) -> UUID:
    """A rollout's row; the files of its adapters are not asked for."""
    with database.transaction() as session:
        challenger = Adapter(
            tenant_id=tenant_id, base_model_id=model_id, name="style", version=2, rank=2, alpha=2.0,
            object_key="none", sha256="0" * 64, size_bytes=1, manifest={},
        )  # fmt: skip
        session.add(challenger)
        session.flush()
        rollout = Rollout(
            tenant_id=tenant_id, stable_diffusion_id=model_id, kind="canary", challenger_id=challenger.id, share=0.5
        )
        session.add(rollout)
        session.flush()
        return rollout.id


def test_image_to_image(bench: JobBench, runtime: Runtime, store: ObjectStore) -> None:
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, "PNG")
    store.put("tenant/init.png", file.getvalue(), content_type="image/png")
    images = [
        run(bench, runtime, init_image_key=key, strength=strength).artifacts[0].sha256
        for key, strength in ((None, None), ("tenant/init.png", 0.4), ("tenant/init.png", 0.9))
    ]
    assert len(set(images)) == 3


def test_an_init_image_that_is_gone(bench: JobBench, runtime: Runtime) -> None:
    job = run(bench, runtime, init_image_key="tenant/none.png", strength=0.5)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "job_failed")
    assert job.error_message is not None
    assert "init_image" in job.error_message


def test_an_adapter_that_is_gone(bench: JobBench, runtime: Runtime, adapter: dict[str, Any]) -> None:
    job = run(bench, runtime, adapters=[adapter | {"object_key": "tenant/none"}])
    assert (job.status, job.error_code) == (JobStatus.FAILED, "adapter_unusable")


def test_a_canceled_run_ends_before_its_last_step(bench: JobBench, runtime: Runtime, store: ObjectStore) -> None:
    job = bench.submit(plan=plan(steps=200, num_images=16))
    worker = threading.Thread(target=run_next, args=(runtime, HANDLERS))
    worker.start()
    while bench.get(job.id).progress_step == 0 and worker.is_alive():
        worker.join(0.1)
    bench.cancel(job.id)
    worker.join(60)
    ended = bench.get(job.id)
    assert ended.status == JobStatus.CANCELED
    assert 0 < ended.progress_step < 200 * 16
    assert not list(store.list(f"job/{job.id}/"))
