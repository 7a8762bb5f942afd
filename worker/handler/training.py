"""Training: dataset → LoRA → stored."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from core.domain import object_key
from core.domain.adapter import AdapterManifest
from core.domain.errors import DatasetUnusable, JobStopped, NotFound
from core.domain.outcome import Outcome, Output
from core.domain.training import TrainingPlan
from core.services import training as trainings
from core.services.training_data import read_manifest
from worker.engine.model_source import fetch_model
from worker.handler.training_watch import RunWatch
from worker.runner import Run
from worker.runtime import Runtime
from worker.training.archive import fetch_newest
from worker.training.checkpoint import digest_config, digest_file
from worker.training.data import Example
from worker.training.export import ADAPTER, KOHYA, MANIFEST
from worker.training.fine_tune import FineTuning
from worker.training.loop import TrainingRun
from worker.training.tuning import set_threads

_log = structlog.get_logger()
_ABANDONED_SECONDS = 24 * 3600.0
_TENSORS, _PNG, _JSON = "application/octet-stream", "image/png", "application/json"


def handle(run: Run, runtime: Runtime) -> Outcome:
    """Train the LoRA of a plan, going on from the newest good checkpoint, and store it.

    Raises:
        DatasetUnusable, ModelUnusable, AdapterUnusable, OutOfMemory, TrainingDiverged: it cannot be done.
        JobStopped: asked to; where the worker drains, a checkpoint was stored before.
        Unavailable: the store or the database is away.
    """
    plan, settings = TrainingPlan.model_validate(run.plan), runtime.settings
    set_threads(settings.torch_threads)
    with _work_folder(settings.data_dir / "work", run) as folder:
        _say(run, plan, "fetching the pictures")
        examples = _fetch_examples(run, runtime, plan, folder / "picture")
        _say(run, plan, "loading the base model")
        model_folder = fetch_model(run.model, settings=settings, store=runtime.store)
        device = settings.device if run.model.options.device == "auto" else run.model.options.device
        tuning = FineTuning(model_folder, examples, plan=plan, device=device)
        tuning.prepare(lambda count: _say(run, plan, f"encoding picture {count} of {len(examples)}"))
        course = _resume(run, runtime, plan, folder)
        watch = RunWatch(run, runtime, tuning, course)
        report = tuning.train(course, watch)
        watch.flush()
        run.report(step=plan.spec.steps, steps=plan.spec.steps, message="storing the adapter")
        manifest = tuning.export(report, model=run.model, folder=folder / "output")
        return _store(run, runtime, manifest, files=folder / "output", samples=course.sample_folder, plan=plan)


def _say(run: Run, plan: TrainingPlan, message: str) -> None:
    if run.should_stop():
        raise JobStopped
    run.report(step=0, steps=plan.spec.steps, message=message)


@contextmanager
def _work_folder(root: Path, run: Run) -> Iterator[Path]:
    """A folder for this claim alone, gone afterwards, together with what killed runs left behind."""
    folder = root / f"{run.job_id}-{run.claim_epoch}"
    for other in root.glob("*-*"):
        lost_its_claim = other.name.startswith(f"{run.job_id}-")
        if lost_its_claim or time.time() - other.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch_examples(run: Run, runtime: Runtime, plan: TrainingPlan, folder: Path) -> list[Example]:
    with runtime.database.transaction() as session:
        manifest = read_manifest(session, run.claim, digest=plan.dataset_digest)
    examples = []
    for position, item in enumerate(manifest.items):
        path = folder / f"{position}.png"
        try:
            runtime.store.download(item.object_key, path)
        except NotFound as error:
            raise DatasetUnusable(f"Picture {position} of the dataset is gone.") from error
        if digest_file(path) != item.sha256:
            raise DatasetUnusable(f"Picture {position} of the dataset is not the one that was uploaded.")
        examples.append(Example(path, item.caption))
        _say(run, plan, f"fetching picture {position + 1} of {len(manifest.items)}")
    return examples


def _resume(run: Run, runtime: Runtime, plan: TrainingPlan, folder: Path) -> TrainingRun:
    config = digest_config(plan, base_model_id=str(run.model.id))
    with runtime.database.transaction() as session:
        stored = trainings.newest_checkpoints(session, job_id=run.job_id)
    newest = fetch_newest(runtime.store, stored, config_sha256=config, folder=folder / "resume")
    _log.info("training", steps=plan.spec.steps, resumes_from=newest.name if newest else None)
    return TrainingRun(
        plan=plan,
        folder=folder,
        config_sha256=config,
        checkpoint_seconds=runtime.settings.checkpoint_seconds,
        resume_from=newest,
    )


def _store(
    run: Run, runtime: Runtime, manifest: AdapterManifest, *, files: Path, samples: Path, plan: TrainingPlan
) -> Outcome:
    """Upload everything, the manifest last: where it is, all is."""
    side = plan.resolution
    pictures = [_upload(run, runtime, path, "sample", _PNG) for path in sorted(samples.glob("*.png"))]
    outputs = [
        _upload(run, runtime, files / ADAPTER, "adapter", _TENSORS),
        _upload(run, runtime, files / KOHYA, "adapter_kohya", _TENSORS),
        *(replace(picture, width=side, height=side, seed=plan.seed) for picture in pictures),
        _upload(run, runtime, files / MANIFEST, "manifest", _JSON),
    ]
    return Outcome(outputs=outputs, adapter=manifest)


def _upload(run: Run, runtime: Runtime, path: Path, kind: str, content_type: str) -> Output:
    body = path.read_bytes()
    key = object_key.output(job_id=run.job_id, claim_epoch=run.claim_epoch, name=path.name)
    runtime.store.put(key, body, content_type=content_type)
    return Output(
        type=kind,
        object_key=key,
        content_type=content_type,
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )
