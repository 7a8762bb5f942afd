"""A plan and its pictures → an adapter's files: one fine-tuning on this machine, without the job around it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from core.domain.training import TrainingPlan, TrainingReport
from worker.engine.pipeline import DeviceName
from worker.training.data import Example, PictureSource, with_trigger
from worker.training.loop import TrainingRun, Watch, train
from worker.training.loss import FineTuningLoss
from worker.training.tuning import Tuning, memory_named

_SAMPLES = 4


class FineTuning(Tuning):
    """The base model loaded, the LoRA on it, the pictures at hand.

    Args:
        model_folder: The base model in the diffusers layout.
        examples: What to learn; at least one.
        plan: How.
        device: Where, by name.

    Raises:
        ModelUnusable, AdapterUnusable, OutOfMemory: as a Tuning.
    """

    def __init__(
        self, model_folder: Path, examples: Sequence[Example], *, plan: TrainingPlan, device: DeviceName = "auto"
    ) -> None:
        super().__init__(model_folder, plan, device)
        self.plan, self._examples = plan, examples
        self.source = PictureSource(examples, self.learner, plan)

    @property
    def sample_prompts(self) -> tuple[str, ...]:
        """What samples show: what was asked for, or else the first captions."""
        captions = (with_trigger(example.caption, self.plan.spec.trigger_word) for example in self._examples)
        return self.plan.spec.sample_prompts or tuple(dict.fromkeys(captions))[:_SAMPLES]

    @property
    def picture_count(self) -> int:
        """The number of pictures trained on."""
        return len(self._examples)

    def prepare(self, on_picture: Callable[[int], None]) -> None:
        """Encode what can be kept; `on_picture(n)` after the n-th picture."""
        with memory_named():
            self.source.fill(on_picture)

    def train(self, run: TrainingRun, watch: Watch) -> TrainingReport:
        """Run the loop, fresh or from `run.resume_from`.

        Raises:
            OutOfMemory: a step does not fit on the device.
            TrainingDiverged, JobStopped: as the loop says.
        """
        with memory_named():
            return train(self.learner, self.source, FineTuningLoss(self.plan.spec.min_snr_gamma), run=run, watch=watch)
