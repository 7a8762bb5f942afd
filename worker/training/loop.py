"""The training loop, read from top to bottom. Who learns, from what, by which loss and for how long: from outside."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from core.domain.errors import JobFailure, JobStopped
from core.domain.preference import AnyPlan
from core.domain.training import Recipe, TrainingMetric, TrainingReport
from worker.training.checkpoint import Snapshot, read_checkpoint, write_checkpoint
from worker.training.data import Source
from worker.training.guide import Guide, NoGuide
from worker.training.journal import Journal
from worker.training.learner import Learner
from worker.training.loss import Loss
from worker.training.state import TrainingState

_log = logging.getLogger(__name__)
B = TypeVar("B")
_STEPS_TO_SHOW_A_GRADIENT = 4  # one alone may draw a timestep that weighs nothing


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A plan under way. `folder` is the run's own; `resume_from` a checkpoint without fault, if any."""

    plan: AnyPlan
    folder: Path
    config_sha256: str
    checkpoint_seconds: float
    resume_from: Path | None = None

    @property
    def sample_folder(self) -> Path:
        """Pictures in here travel with every checkpoint."""
        return self.folder / "sample"


class Watch(Protocol):
    """Who looks on. Nothing that it does changes what the run computes."""

    def should_stop(self) -> bool:
        """Asked before each step, so it must be quick."""

    def record(self, metrics: Sequence[TrainingMetric]) -> None:
        """Metrics of the steps since the last call, ascending. After a resume steps may come again."""

    def keep(self, checkpoint: Path, *, step: int) -> None:
        """Put a complete checkpoint in a safe place; the folder may be removed afterwards."""

    def sample(self, *, step: int) -> None:
        """Draw pictures with the adapter as it is now."""


def train(
    learner: Learner, source: Source[B], loss: Loss[B], *, run: TrainingRun, watch: Watch, guide: Guide | None = None
) -> TrainingReport:
    """Train the learner's adapter until `plan.spec.steps` optimizer steps are done or the guide ends the run.

    On a CPU a plan gives the same weights to the last bit, however often its run is cut and resumed.

    Raises:
        TrainingDiverged: a loss or gradient is not finite; the message names the step.
        JobStopped: `watch` said so; a checkpoint was kept before.
        JobFailure: no gradient reaches the adapter.
    """
    spec, guide = run.plan.spec, guide or NoGuide()
    state = TrainingState(learner, weight_decay=spec.weight_decay, seed=run.plan.seed)
    journal = Journal(watch.record, may_overflow=state.scaler.is_enabled())
    if run.resume_from is not None:
        snapshot = read_checkpoint(run.resume_from, attachments=run.sample_folder)
        state.restore(snapshot)
        source.position, journal.first_loss = snapshot.position, snapshot.first_loss
        guide.restore(snapshot.guide)
    resumed_from = state.step
    started = kept_at = time.monotonic()
    gradients = torch.zeros((), device=learner.device)

    def keep() -> None:
        journal.flush()  # a run that diverged must not be kept
        snapshot = state.snapshot(position=source.position, first_loss=journal.first_loss, guide=guide.snapshot())
        _keep(run, snapshot, watch)

    is_over = False
    while state.step < spec.steps and not is_over:
        if watch.should_stop():
            if state.step > resumed_from:
                keep()
            raise JobStopped(f"Training stopped after step {state.step} of {spec.steps}.")

        rate = learning_rate_at(state.step, spec)
        state.set_learning_rate(rate)
        total = torch.zeros((), device=learner.device)
        for _ in range(spec.gradient_accumulation):
            with torch.autocast(learner.device.type, learner.dtype, enabled=learner.dtype is not torch.float32):
                share = loss(learner.denoiser, source.take(), state.generator) / spec.gradient_accumulation
            state.scaler.scale(share).backward()
            total += share.detach()
        norm = state.descend(max_gradient_norm=spec.max_gradient_norm)

        gradients += norm
        if state.step == resumed_from + _STEPS_TO_SHOW_A_GRADIENT and not gradients:
            raise JobFailure(f"All steps up to {state.step} gave no gradient: the adapter cannot learn.")
        journal.add(state.step, loss=total, gradient_norm=norm, learning_rate=rate)
        is_over = guide.follow(state.step, total)
        if run.plan.draws_samples_after(state.step):
            with torch.random.fork_rng(), torch.no_grad():
                watch.sample(step=state.step)
        if state.step < spec.steps and not is_over and time.monotonic() - kept_at >= run.checkpoint_seconds:
            keep()
            kept_at = time.monotonic()

    journal.flush()
    guide.settle()
    return TrainingReport(
        steps=state.step,
        first_loss=journal.first_loss,
        last_loss=journal.last_loss,
        resumed_from_step=resumed_from,
        execution_seconds=time.monotonic() - started,
    )


def learning_rate_at(step: int, spec: Recipe) -> float:
    """The rate of the step after `step` done ones: up in a line, then constant or down along half a cosine.

    The cosine ends at zero after the last step (Loshchilov and Hutter, arXiv 1608.03983).
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.learning_rate_schedule == "constant":
        return spec.learning_rate
    progress = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    return spec.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def _keep(run: TrainingRun, snapshot: Snapshot, watch: Watch) -> None:
    samples = sorted(run.sample_folder.glob("*")) if run.sample_folder.exists() else []
    try:
        path = write_checkpoint(
            run.folder / "checkpoint", snapshot, config_sha256=run.config_sha256, attachments=samples
        )
    except OSError as error:  # a full disk costs the checkpoint, not the run
        _log.warning("No checkpoint at step %d: %s", snapshot.step, error)
        return
    watch.keep(path, step=snapshot.step)
