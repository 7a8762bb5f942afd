"""Training: dataset → LoRA → stored."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.domain.adapter import AdapterManifest
from core.domain.outcome import Outcome
from core.domain.training import TrainingPlan
from core.services.training_data import read_manifest
from worker.handler.training_watch import RunWatch
from worker.handler.workbench import (
    JSON,
    PNG,
    TENSORS,
    fetch_picture,
    hold_base_model,
    resume,
    say,
    upload,
    work_folder,
)
from worker.runner import Run
from worker.runtime import Runtime
from worker.training.data import Example
from worker.training.export import ADAPTER, KOHYA, MANIFEST
from worker.training.fine_tune import FineTuning
from worker.training.tuning import set_threads


def handle(run: Run, runtime: Runtime) -> Outcome:
    """Train the LoRA of a plan, going on from the newest good checkpoint, and store it.

    Raises:
        DatasetUnusable, ModelUnusable, AdapterUnusable, OutOfMemory, TrainingDiverged: it cannot be done.
        JobStopped: asked to; where the worker drains, a checkpoint was stored before.
        Unavailable: the store or the database is away.
    """
    plan, settings = TrainingPlan.model_validate(run.plan), runtime.settings

    def tell(message: str) -> None:
        say(run, message, steps=plan.spec.steps)

    set_threads(settings.torch_threads)
    with work_folder(runtime, run) as folder:
        tell("fetching the pictures")
        examples = _fetch_examples(run, runtime, plan, folder / "picture", tell=tell)
        device = settings.device if run.model.options.device == "auto" else run.model.options.device
        with hold_base_model(run, runtime, tell=tell) as model_folder:
            tell("loading the base model")
            tuning = FineTuning(model_folder, examples, plan=plan, device=device)
        tuning.prepare(lambda count: tell(f"encoding picture {count} of {len(examples)}"))
        course = resume(run, runtime, plan, folder)
        watch = RunWatch(run, runtime, tuning, course)
        report = tuning.train(course, watch)
        watch.flush()
        run.report(step=plan.spec.steps, steps=plan.spec.steps, message="storing the adapter")
        manifest = tuning.export(report, model=run.model, folder=folder / "output")
        return _store(run, runtime, manifest, files=folder / "output", samples=course.sample_folder, plan=plan)


def _fetch_examples(
    run: Run, runtime: Runtime, plan: TrainingPlan, folder: Path, *, tell: Callable[[str], None]
) -> list[Example]:
    with runtime.database.transaction() as session:
        manifest = read_manifest(session, run.claim, digest=plan.dataset_digest)
    examples = []
    for position, item in enumerate(manifest.items):
        path, name = folder / f"{position}.png", f"Picture {position} of the dataset"
        fetch_picture(runtime, item.object_key, path, sha256=item.sha256, name=name)
        examples.append(Example(path, item.caption))
        tell(f"fetching picture {position + 1} of {len(manifest.items)}")
    return examples


def _store(
    run: Run, runtime: Runtime, manifest: AdapterManifest, *, files: Path, samples: Path, plan: TrainingPlan
) -> Outcome:
    """Upload everything, the manifest last: where it is, all is."""
    side = plan.resolution
    pictures = [upload(run, runtime, path, "sample", PNG) for path in sorted(samples.glob("*.png"))]
    outputs = [
        upload(run, runtime, files / ADAPTER, "adapter", TENSORS),
        upload(run, runtime, files / KOHYA, "adapter_kohya", TENSORS),
        *(replace(picture, width=side, height=side, seed=plan.seed) for picture in pictures),
        upload(run, runtime, files / MANIFEST, "manifest", JSON),
    ]
    return Outcome(outputs=outputs, adapter=manifest)
