"""A random Stable Diffusion and a plan, small enough to train in a second; used by tests and by processes they kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from PIL import Image

from core.domain.training import TrainingMetric, TrainingPlan, TrainingSpec
from tests.tiny_pipeline import build_sd, build_sdxl
from worker.training.checkpoint import digest_config
from worker.training.data import Example
from worker.training.learner import Learner
from worker.training.loop import TrainingRun

CPU = torch.device("cpu")


def make_plan(**changes: Any) -> TrainingPlan:
    """Four steps of two pictures; `changes` are fields of the TrainingSpec."""
    fields = {"name": "it", "dataset_id": UUID(int=1), "rank": 2, "steps": 4, "batch_size": 2, "learning_rate": 1e-2}
    spec = TrainingSpec(**{**fields, **changes})
    return TrainingPlan(
        spec=spec,
        base_model="random",
        adapter_version=1,
        alpha=spec.alpha or float(spec.rank),
        resolution=spec.resolution or 32,
        seed=7,
        dataset_digest="0" * 64,
    )


def make_learner(plan: TrainingPlan, *, sdxl: bool = False) -> Learner:
    """A fresh pipeline, the same each time, with the plan's LoRA on it."""
    return Learner(make_pipeline(sdxl=sdxl), plan, device=CPU)


def make_pipeline(*, sdxl: bool = False) -> Any:
    """A pipeline of random weights, the same each time."""
    with torch.random.fork_rng():
        pipeline = build_sdxl() if sdxl else build_sd()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_examples(folder: Path) -> list[Example]:
    """Five pictures of noise in several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    found = []
    for index, (width, height) in enumerate([(64, 64), (80, 64), (64, 100), (64, 64), (90, 90)]):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
        found.append(Example(path, f"picture number {index}"))
    return found


class Watcher:
    """Watches a run: notes its metrics, and says stop before the step after `stop_after`."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.metrics: list[TrainingMetric] = []
        self.kept: list[Path] = []
        self.sampled: list[int] = []
        self.questions = 0

    def should_stop(self) -> bool:
        self.questions += 1
        return self.stop_after is not None and self.questions > self.stop_after

    def record(self, metrics: Sequence[TrainingMetric]) -> None:
        self.metrics.extend(metrics)

    def keep(self, checkpoint: Path, *, step: int) -> None:
        assert int(checkpoint.name) == step
        self.kept.append(checkpoint)

    def sample(self, *, step: int) -> None:
        self.sampled.append(step)


def make_run(plan: TrainingPlan, folder: Path, **changes: Any) -> TrainingRun:
    """A run that keeps no checkpoint unless it is stopped."""
    config = digest_config(plan, base_model_id="random")
    return TrainingRun(plan=plan, folder=folder, config_sha256=config, **{"checkpoint_seconds": 1e9, **changes})
