"""A random Stable Diffusion and a plan, small enough to train in a second; used by tests and by processes they kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import torch
from PIL import Image

from core.domain.model_update import Split
from core.domain.preference import (
    AnyPlan,
    PictureRef,
    PreferenceKind,
    PreferenceManifest,
    PreferencePlan,
    PreferenceRecipe,
    PreferenceRow,
)
from core.domain.training import TrainingMetric, TrainingPlan, TrainingSpec
from tests.tiny_pipeline import build_sd, build_sdxl
from worker.training.checkpoint import digest_config, digest_file
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


def make_preference_plan(**changes: Any) -> PreferencePlan:
    """Six steps of four opinions; `changes` are fields of the PreferenceRecipe."""
    fields = {"rank": 2, "steps": 6, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 1e-2}
    few = {"beta": 100.0, "noise_draws": 3, "evaluate_every": 3}
    spec = PreferenceRecipe(**{**fields, **few, **changes})
    return PreferencePlan(
        spec=spec,
        name="learned",
        base_model="random",
        adapter_version=1,
        alpha=spec.alpha or float(spec.rank),
        resolution=32,
        seed=7,
        dataset_digest="0" * 64,
    )


def make_opinions(
    folder: Path, *, pairs: int = 5, liked: int = 2, disliked: int = 2, held_out: int = 2
) -> tuple[PreferenceManifest, dict[str, Path]]:
    """Opinions on pictures of noise, bright ones better than dark ones; the first `held_out` pairs are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    pictures: dict[str, Path] = {}

    def draw(name: str, low: int) -> PictureRef:
        path = folder / f"{name}.png"
        Image.fromarray(rng.integers(low, low + 128, size=(32, 32, 3), dtype=np.uint8)).save(path)
        sha256 = digest_file(path)
        pictures[sha256] = path
        return PictureRef(image_id=uuid4(), object_key=name, sha256=sha256)

    def row(index: int, kind: PreferenceKind, split: Split) -> PreferenceRow:
        return PreferenceRow(
            feedback_id=uuid4(),
            kind=kind,
            prompt=f"picture {index % 3}",
            picture=draw(f"{kind}-{index}", 0 if kind is PreferenceKind.DISLIKED else 128),
            rejected=draw(f"rejected-{index}", 0) if kind is PreferenceKind.PAIR else None,
            weight=1.0 + index / 4,
            split=split,
        )

    kinds = [PreferenceKind.PAIR] * pairs + [PreferenceKind.LIKED] * liked + [PreferenceKind.DISLIKED] * disliked
    splits = [Split.HELD_OUT if index < held_out else Split.TRAIN for index in range(len(kinds))]
    rows = [row(index, kind, split) for index, (kind, split) in enumerate(zip(kinds, splits, strict=True))]
    return PreferenceManifest(rows=tuple(rows)), pictures


def make_learner(plan: AnyPlan, *, sdxl: bool = False) -> Learner:
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


def make_run(plan: AnyPlan, folder: Path, **changes: Any) -> TrainingRun:
    """A run that keeps no checkpoint unless it is stopped."""
    config = digest_config(plan, base_model_id="random")
    return TrainingRun(plan=plan, folder=folder, config_sha256=config, **{"checkpoint_seconds": 1e9, **changes})
