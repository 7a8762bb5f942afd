"""A manifest of opinions and its pictures → an adapter's files: one preference training on this machine."""

from collections.abc import Callable, Mapping
from pathlib import Path

from core.domain.model_update import Split
from core.domain.preference import PreferenceManifest, PreferencePlan, PreferenceReport
from worker.engine.pipeline import DeviceName
from worker.training.held_out import HeldOut
from worker.training.loop import TrainingRun, Watch, train
from worker.training.opinion_shelf import OpinionShelf
from worker.training.preference_data import PreferenceSource
from worker.training.preference_guide import PreferenceGuide
from worker.training.preference_loss import PreferenceLoss
from worker.training.sample import draw_as_before
from worker.training.tuning import Tuning, memory_named

_SAMPLES = 4


class PreferenceTuning(Tuning):
    """The base model loaded, a fresh LoRA on it, the opinions and their pictures at hand.

    The reference is the base itself: the same network with the adapter off. What comes out depends on what the
    manifest says, the recipe and the seed, not on the order or the ids of its rows.

    Args:
        model_folder: The base model in the diffusers layout.
        manifest: What to learn and what to hold out.
        pictures: Digest of a picture in the manifest → its file.
        plan: How.
        device: Where, by name.

    Raises:
        DatasetUnusable: no row is to be trained on, or a picture is not there.
        ModelUnusable, AdapterUnusable, OutOfMemory: as a Tuning.
    """

    def __init__(
        self,
        model_folder: Path,
        manifest: PreferenceManifest,
        pictures: Mapping[str, Path],
        *,
        plan: PreferencePlan,
        device: DeviceName = "auto",
    ) -> None:
        super().__init__(model_folder, plan, device)
        self.plan, self._manifest = plan, manifest
        rows, held_out = manifest.of(Split.TRAIN), manifest.of(Split.HELD_OUT)
        self._shelf = OpinionShelf([*rows, *held_out], pictures, self.learner, resolution=plan.resolution)
        self.source = PreferenceSource(rows, self._shelf, self.learner, plan)
        self._held_out = HeldOut(held_out, self._shelf, self.learner) if held_out else None

    @property
    def sample_prompts(self) -> tuple[str, ...]:
        """The first prompts that opinions are about."""
        return tuple(dict.fromkeys(row.prompt for row in self._manifest.rows))[:_SAMPLES]

    @property
    def picture_count(self) -> int:
        """The number of pictures that opinions to train on are about."""
        rows = self._manifest.of(Split.TRAIN)
        return len({ref.sha256 for row in rows for ref in (row.picture, row.rejected) if ref is not None})

    def prepare(self, on_picture: Callable[[int], None]) -> None:
        """Encode all pictures and prompts, `on_picture(n)` after the n-th; draw what is to be preserved."""
        with memory_named():
            self._shelf.fill(on_picture)
            self._draw_preserved(lambda: on_picture(len(self._shelf)))

    def _draw_preserved(self, on_picture: Callable[[], None] = lambda: None) -> None:
        """Let the base draw what is to stay as it is, once."""
        spec = self.plan.spec
        prompts = spec.preserve_prompts if spec.preserve_weight else ()
        # As many at once as a step has room for; always the same ones together, so that a resumed run sees no other.
        for first in range(self.source.preserved_count, len(prompts), spec.batch_size):
            some = prompts[first : first + spec.batch_size]
            drawn = draw_as_before(
                self.learner,
                some,
                [self.plan.seed + first + index for index in range(len(some))],
                resolution=self.plan.resolution,
                defaults=self._facts.defaults,
            )
            for prompt, latents in zip(some, drawn, strict=True):
                self.source.preserve(prompt, latents[None])
            on_picture()

    def train(self, run: TrainingRun, watch: Watch) -> PreferenceReport:
        """Run the loop, fresh or from `run.resume_from`; then the adapter has the weights that are to be kept.

        Raises:
            JobFailure: policy and reference differ before the first step, or no gradient reaches the adapter.
            OutOfMemory: a step does not fit on the device.
            TrainingDiverged, JobStopped: as the loop says.
        """
        loss = PreferenceLoss(self.plan.spec, device=self.learner.device)
        guide = PreferenceGuide(self.learner, loss, self._held_out, self.plan.spec)
        with memory_named():
            self._draw_preserved()
            report = train(self.learner, self.source, loss, run=run, watch=watch, guide=guide)
        return PreferenceReport(
            steps=report.steps,
            best_step=guide.best_step,
            first_loss=report.first_loss,
            last_loss=report.last_loss,
            final_beta=float(loss.beta),
            stop_reason=guide.stop_reason,
            looks=tuple(guide.looks),
            resumed_from_step=report.resumed_from_step,
            execution_seconds=report.execution_seconds,
        )
