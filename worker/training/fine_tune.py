"""A plan and its pictures → an adapter's files: one fine-tuning on this machine, without the job around it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from core.domain.adapter import AdapterManifest
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import OutOfMemory
from core.domain.training import TrainingPlan, TrainingReport
from worker.engine.inspection import inspect_pipeline
from worker.engine.pipeline import DeviceName, is_out_of_memory, load_pipeline, pick_device
from worker.training.data import Example, PictureSource, with_trigger
from worker.training.export import export_adapter
from worker.training.learner import Learner
from worker.training.loop import TrainingRun, Watch, train
from worker.training.loss import FineTuningLoss
from worker.training.provenance import Provenance
from worker.training.sample import draw_samples

_SAMPLES = 4


class FineTuning:
    """The base model loaded, the LoRA on it, the pictures at hand.

    Args:
        model_folder: The base model in the diffusers layout.
        examples: What to learn; at least one.
        plan: How.
        device: Where, by name.

    Raises:
        ModelUnusable: the base model cannot be loaded.
        AdapterUnusable: the plan's target modules do not fit it.
        OutOfMemory: it does not fit on the device.
    """

    def __init__(
        self, model_folder: Path, examples: Sequence[Example], *, plan: TrainingPlan, device: DeviceName = "auto"
    ) -> None:
        self.plan, self._examples = plan, examples
        # The learner itself decides what is held in half precision.
        pipeline = load_pipeline(model_folder, LoadOptions(dtype="float32", device="cpu"), device="cpu")
        self._facts = inspect_pipeline(pipeline, model_folder)
        with _memory_named():
            self.learner = Learner(pipeline, plan, device=pick_device(device))
        self.source = PictureSource(examples, self.learner, plan)

    @property
    def sample_prompts(self) -> tuple[str, ...]:
        """What samples show: what was asked for, or else the first captions."""
        captions = (with_trigger(example.caption, self.plan.spec.trigger_word) for example in self._examples)
        return self.plan.spec.sample_prompts or tuple(dict.fromkeys(captions))[:_SAMPLES]

    def prepare(self, on_picture: Callable[[int], None]) -> None:
        """Encode what can be kept; `on_picture(n)` after the n-th picture."""
        with _memory_named():
            self.source.fill(on_picture)

    def train(self, run: TrainingRun, watch: Watch) -> TrainingReport:
        """Run the loop, fresh or from `run.resume_from`.

        Raises:
            OutOfMemory: a step does not fit on the device.
            TrainingDiverged, JobStopped: as the loop says.
        """
        with _memory_named():
            return train(self.learner, self.source, FineTuningLoss(self.plan.spec.min_snr_gamma), run=run, watch=watch)

    def draw(self, step: int, *, folder: Path) -> None:
        """Draw samples into `folder`, named so that their order is that of the steps."""
        folder.mkdir(parents=True, exist_ok=True)
        images = draw_samples(
            self.learner,
            self.sample_prompts,
            seed=self.plan.seed,
            resolution=self.plan.resolution,
            defaults=self._facts.defaults,
        )
        for index, image in enumerate(images):
            image.save(folder / f"sample-{step:06d}-{index}.png")

    def export(self, report: TrainingReport, *, model: ModelHandle, folder: Path) -> AdapterManifest:
        """Write the adapter's files into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        provenance = Provenance(
            plan=self.plan,
            report=report,
            model=model,
            family=self._facts.family,
            prediction_type=self.learner.denoiser.prediction_type,
            picture_count=len(self._examples),
        )
        return export_adapter(self.learner, provenance, folder=folder)


def set_threads(count: int) -> None:
    """CPU threads of this process's torch."""
    torch.set_num_threads(count)


@contextmanager
def _memory_named() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "The device has not enough memory for this training: lower batch_size or resolution, "
            "or set gradient_checkpointing."
        ) from error
