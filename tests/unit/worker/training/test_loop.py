import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.domain.errors import JobFailure, JobStopped, TrainingDiverged
from core.domain.training import TrainingReport
from tests.training_bench import Watcher, make_examples, make_learner, make_plan, make_run
from worker.engine.denoiser import Condition, Denoiser, denoise_error
from worker.training.checkpoint import find_fault
from worker.training.data import PictureSource
from worker.training.learner import Learner
from worker.training.loop import learning_rate_at, train
from worker.training.loss import Batch, FineTuningLoss

Weights = dict[str, torch.Tensor]
# Everything that draws chance or keeps state at once.
RICH: dict[str, Any] = {
    "steps": 6,
    "caption_dropout": 0.3,
    "augment": {"flip": 0.5, "crop": 0.3, "color": 0.3},
    "gradient_accumulation": 2,
    "warmup_steps": 2,
}


WIDE: dict[str, Any] = {
    "steps": 60,
    "batch_size": 5,
    "min_snr_gamma": None,
    "target_modules": ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_out"),
}


def run_once(folder: Path, watcher: Watcher, *, resume_from: Path | None = None, **changes: Any) -> tuple[Any, Weights]:
    plan = make_plan(**changes)
    learner = make_learner(plan)
    source = PictureSource(make_examples(folder / "picture"), learner, plan)
    run = make_run(plan, folder, resume_from=resume_from)
    report = train(learner, source, FineTuningLoss(plan.spec.min_snr_gamma), run=run, watch=watcher)
    return report, weights_of(learner)


def weights_of(learner: Learner) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in learner.parameters().items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls_and_every_step_is_told(tmp_path: Path) -> None:
    watcher = Watcher()
    report, weights = run_once(tmp_path, watcher, **WIDE)
    assert [metric.step for metric in watcher.metrics] == list(range(1, 61))
    losses = [metric.loss for metric in watcher.metrics]
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])
    assert all(metric.gradient_norm > 0 for metric in watcher.metrics)
    assert isinstance(report, TrainingReport) and report.steps == 60 and report.first_loss == losses[0]
    assert all(torch.isfinite(weight).all() for weight in weights.values())


@pytest.mark.parametrize("changes", [{}, {"train_text_encoder": True, "gradient_checkpointing": True}])
def test_a_run_that_was_stopped_ends_with_the_very_same_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    _, undisturbed = run_once(tmp_path / "a", Watcher(), **RICH | changes)
    checkpoint: Path | None = None
    metrics: dict[int, float] = {}
    for leg in range(3):
        watcher = Watcher(stop_after=2 if leg < 2 else None)
        try:
            report, resumed = run_once(tmp_path / f"leg{leg}", watcher, resume_from=checkpoint, **RICH | changes)
        except JobStopped:
            (checkpoint,) = watcher.kept
            assert (
                find_fault(checkpoint, config_sha256=make_run(make_plan(**RICH | changes), tmp_path).config_sha256)
                is None
            )
        metrics |= {metric.step: metric.loss for metric in watcher.metrics}
    assert report.resumed_from_step == 4
    assert sorted(metrics) == [1, 2, 3, 4, 5, 6] and report.first_loss == metrics[1]
    assert same(undisturbed, resumed)


def test_stopping_before_anything_was_done_keeps_nothing(tmp_path: Path) -> None:
    watcher = Watcher(stop_after=0)
    with pytest.raises(JobStopped):
        run_once(tmp_path, watcher)
    assert watcher.kept == []


def test_checkpoints_and_samples_do_not_disturb(tmp_path: Path) -> None:
    class Meddler(Watcher):
        def sample(self, *, step: int) -> None:
            super().sample(step=step)
            torch.rand(100)  # whoever draws pictures may use chance

    _, undisturbed = run_once(tmp_path / "a", Watcher(), **RICH)
    plan = make_plan(**RICH, sample_every=2)
    learner, watcher = make_learner(plan), Meddler()
    source = PictureSource(make_examples(tmp_path / "picture"), learner, plan)
    run = make_run(plan, tmp_path / "b", checkpoint_seconds=0.0)
    train(learner, source, FineTuningLoss(5.0), run=run, watch=watcher)
    assert len(watcher.kept) == 5 and watcher.sampled == [2, 4, 6]
    assert same(undisturbed, weights_of(learner))


KILLED = """
import sys, torch
from pathlib import Path
from tests.training_bench import *
from worker.training.loop import train
from worker.training.data import PictureSource
from worker.training.loss import FineTuningLoss
torch.set_num_threads(1)
folder, plan = Path(sys.argv[1]), make_plan(**eval(sys.argv[2]))
class Announcer(Watcher):
    def keep(self, checkpoint, *, step):
        print(checkpoint, flush=True)
        if step == 3:
            sys.stdin.read()  # the end comes from outside
learner = make_learner(plan)
source = PictureSource(make_examples(folder / "picture"), learner, plan)
train(learner, source, FineTuningLoss(5.0), run=make_run(plan, folder, checkpoint_seconds=0.0), watch=Announcer())
"""


def test_a_run_that_was_killed_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    _, undisturbed = run_once(tmp_path / "a", Watcher(), **RICH)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), repr(RICH)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        kept = [Path(child.stdout.readline().strip()) for _ in range(3)]
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    # The newest has only just been announced; an older one does as well.
    for checkpoint in kept[1:]:
        _, resumed = run_once(tmp_path / "b", Watcher(), resume_from=checkpoint, **RICH)
        assert same(undisturbed, resumed)


@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(tmp_path: Path, step: int) -> None:
    plan = make_plan()
    learner, watcher = make_learner(plan), Watcher()
    calls = iter(range(1, 100))

    def loss(denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        value = FineTuningLoss(None)(denoiser, batch, generator)
        return value * math.nan if next(calls) == step else value

    source = PictureSource(make_examples(tmp_path / "picture"), learner, plan)
    with pytest.raises(TrainingDiverged, match=f"step {step} "):
        train(learner, source, loss, run=make_run(plan, tmp_path, checkpoint_seconds=0.0), watch=watcher)
    assert [metric.step for metric in watcher.metrics] == list(range(1, step))
    assert all(int(path.name) < step for path in watcher.kept)


def test_a_first_step_that_weighs_nothing_is_no_error(tmp_path: Path) -> None:
    """As the last timestep does with zero terminal SNR, where the velocity is predicted and min-SNR weighs."""
    plan = make_plan()
    learner = make_learner(plan)
    calls = iter(range(100))

    def loss(denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        return FineTuningLoss(None)(denoiser, batch, generator) * (next(calls) > 0)

    source = PictureSource(make_examples(tmp_path / "picture"), learner, plan)
    report = train(learner, source, loss, run=make_run(plan, tmp_path), watch=Watcher())
    assert report.steps == plan.spec.steps


def test_a_loss_that_teaches_nothing_is_an_error(tmp_path: Path) -> None:
    plan = make_plan()
    learner = make_learner(plan)

    def loss(denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        learner.pipe.unet.disable_adapters()  # the trap: zero gradients and no complaint
        value = FineTuningLoss(None)(denoiser, batch, generator)
        learner.pipe.unet.enable_adapters()
        return value + 0 * sum(parameter.sum() for parameter in learner.parameters().values())

    source = PictureSource(make_examples(tmp_path / "picture"), learner, plan)
    with pytest.raises(JobFailure, match="no gradient"):
        train(learner, source, loss, run=make_run(plan, tmp_path), watch=Watcher())


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path: Path) -> None:
    plan = make_plan()
    learner, watcher = make_learner(plan), Watcher()
    source = PictureSource(make_examples(tmp_path / "picture"), learner, plan)
    (tmp_path / "run").write_text("a file where the folder should be")
    report = train(
        learner,
        source,
        FineTuningLoss(5.0),
        run=make_run(plan, tmp_path / "run", checkpoint_seconds=0.0),
        watch=watcher,
    )
    assert report.steps == 4 and watcher.kept == []


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_and_resumes(tmp_path: Path, precision: str) -> None:
    changes: dict[str, Any] = {"mixed_precision": precision, "steps": 6}
    watcher = Watcher(stop_after=3)
    with pytest.raises(JobStopped):
        run_once(tmp_path, watcher, **changes)
    report, weights = run_once(tmp_path, Watcher(), resume_from=watcher.kept[0], **changes)
    assert report.resumed_from_step == 3
    assert any(weight.abs().sum() > 0 for name, weight in weights.items() if "lora_B" in name)


class Slices:
    """A batch handed out in parts."""

    position = 0

    def __init__(self, whole: Batch, size: int) -> None:
        self.whole, self.size = whole, size

    def take(self) -> Batch:
        rows = slice(self.position, self.position + self.size)
        self.position += self.size
        return Batch(self.whole.latents[rows], Condition(self.whole.condition.hidden_states[rows]))


def test_gradients_of_small_batches_add_up_to_those_of_a_large_one(tmp_path: Path) -> None:
    def loss(denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        timesteps = torch.full((len(batch.latents),), 400)
        noise = batch.latents.flip(1)  # the same for a picture in whichever batch
        return denoise_error(denoiser, batch.latents, batch.condition, timesteps, noise).mean()

    plan = make_plan(batch_size=4)
    whole = PictureSource(make_examples(tmp_path / "picture"), make_learner(plan), plan).take()
    seen = []
    for size, accumulation in ((4, 1), (1, 4), (2, 2)):
        plan, watcher = make_plan(steps=1, batch_size=size, gradient_accumulation=accumulation), Watcher()
        train(make_learner(plan), Slices(whole, size), loss, run=make_run(plan, tmp_path), watch=watcher)
        seen.append((watcher.metrics[0].loss, watcher.metrics[0].gradient_norm))
    assert seen[1] == pytest.approx(seen[0], rel=1e-4) and seen[2] == pytest.approx(seen[0], rel=1e-4)


def test_the_rate_warms_up_then_stays_or_falls() -> None:
    constant = make_plan(steps=10, warmup_steps=4, learning_rate=0.4, learning_rate_schedule="constant").spec
    assert [round(learning_rate_at(step, constant), 6) for step in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    cosine = make_plan(steps=10, learning_rate=0.4, learning_rate_schedule="cosine").spec
    rates = [learning_rate_at(step, cosine) for step in range(10)]
    assert rates[0] == 0.4 and rates[5] == pytest.approx(0.2) and rates == sorted(rates, reverse=True) and rates[-1] > 0
