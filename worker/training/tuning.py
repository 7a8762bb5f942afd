"""A base model with a LoRA to train on it, without the job around it: what every kind of training shares."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from core.domain.adapter import AdapterManifest
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import OutOfMemory
from core.domain.preference import AnyPlan, PreferenceReport
from core.domain.training import TrainingReport
from worker.engine.inspection import inspect_pipeline
from worker.engine.pipeline import DeviceName, is_out_of_memory, load_pipeline, pick_device
from worker.training.export import export_adapter
from worker.training.learner import Learner
from worker.training.provenance import Provenance
from worker.training.sample import draw_samples


class Tuning(ABC):
    """The base model loaded, the LoRA on it.

    Args:
        model_folder: The base model in the diffusers layout.
        plan: How to train.
        device: Where, by name.

    Raises:
        ModelUnusable: the base model cannot be loaded.
        AdapterUnusable: the plan's target modules do not fit it.
        OutOfMemory: it does not fit on the device.
    """

    def __init__(self, model_folder: Path, plan: AnyPlan, device: DeviceName) -> None:
        # The learner itself decides what is held in half precision.
        pipeline = load_pipeline(model_folder, LoadOptions(dtype="float32", device="cpu"), device="cpu")
        self._facts = inspect_pipeline(pipeline, model_folder)
        self._plan = plan
        with memory_named():
            self.learner = Learner(pipeline, plan, device=pick_device(device))

    @property
    @abstractmethod
    def sample_prompts(self) -> tuple[str, ...]:
        """What samples show."""

    @property
    @abstractmethod
    def picture_count(self) -> int:
        """The number of pictures trained on."""

    def draw(self, step: int, *, folder: Path) -> None:
        """Draw samples into `folder`, named so that their order is that of the steps."""
        folder.mkdir(parents=True, exist_ok=True)
        images = draw_samples(
            self.learner,
            self.sample_prompts,
            seed=self._plan.seed,
            resolution=self._plan.resolution,
            defaults=self._facts.defaults,
        )
        for index, image in enumerate(images):
            image.save(folder / f"sample-{step:06d}-{index}.png")

    def export(self, report: TrainingReport | PreferenceReport, *, model: ModelHandle, folder: Path) -> AdapterManifest:
        """Write the adapter's files into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        provenance = Provenance(
            plan=self._plan,
            report=report,
            model=model,
            family=self._facts.family,
            prediction_type=self.learner.denoiser.prediction_type,
            picture_count=self.picture_count,
        )
        return export_adapter(self.learner, provenance, folder=folder)


def set_threads(count: int) -> None:
    """CPU threads of this process's torch."""
    torch.set_num_threads(count)


@contextmanager
def memory_named() -> Iterator[None]:
    """Say what to do where the device's memory is not enough.

    Raises:
        OutOfMemory: in place of what torch raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "The device has not enough memory for this training: lower batch_size or resolution, "
            "or set gradient_checkpointing."
        ) from error
