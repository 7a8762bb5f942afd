import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import torch
from safetensors import safe_open

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import DatasetUnusable, JobStopped
from core.domain.model_update import Split
from core.domain.preference import PreferenceManifest, PreferenceReport
from tests.training_bench import Watcher, make_opinions, make_pipeline, make_preference_plan, make_run
from worker.training.checkpoint import find_fault
from worker.training.export import ADAPTER, KOHYA
from worker.training.preference import PreferenceTuning

Opinions = tuple[PreferenceManifest, dict[str, Path]]
WIDE: dict[str, Any] = {"target_modules": ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_out")}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def opinions(tmp_path_factory: pytest.TempPathFactory) -> Opinions:
    return make_opinions(tmp_path_factory.mktemp("picture"))


def run_once(
    model_folder: Path, opinions: Opinions, folder: Path, *, resume_from: Path | None = None, **changes: Any
) -> tuple[PreferenceReport, PreferenceTuning, Watcher]:
    watcher = changes.pop("watcher", Watcher())
    seconds = changes.pop("checkpoint_seconds", 1e9)
    plan = make_preference_plan(**changes)
    tuning = PreferenceTuning(model_folder, *opinions, plan=plan, device="cpu")
    tuning.prepare(lambda _: None)
    run = make_run(plan, folder, resume_from=resume_from, checkpoint_seconds=seconds)
    return tuning.train(run, watcher), tuning, watcher


def weights_of(tuning: PreferenceTuning) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in tuning.learner.parameters().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def export(tuning: PreferenceTuning, report: PreferenceReport, folder: Path) -> dict[str, bytes]:
    tuning.export(report, model=ModelHandle(UUID(int=2), "random", "/x", None, LoadOptions()), folder=folder)
    return {name: (folder / name).read_bytes() for name in (ADAPTER, KOHYA)}


def test_opinions_are_learned(model_folder: Path, tmp_path: Path) -> None:
    opinions = make_opinions(tmp_path / "picture", pairs=12, liked=0, disliked=0, held_out=4)
    changes: dict[str, Any] = {**WIDE, "steps": 40, "batch_size": 8, "evaluate_every": 20, "sft_weight": 0.0}
    report, _, watcher = run_once(model_folder, opinions, tmp_path, beta=None, ema_decay=0.5, **changes)
    assert report.first_loss == pytest.approx(0.6931, abs=1e-4)
    assert [metric.step for metric in watcher.metrics] == list(range(1, report.steps + 1))
    assert all(metric.gradient_norm > 0 for metric in watcher.metrics)
    best = next(look for look in report.looks if look.step == report.best_step)
    assert best.accuracy == 1.0 and best.margin > 0 and watcher.sampled == []


def test_thumbs_alone_are_learned(model_folder: Path, tmp_path: Path) -> None:
    opinions = make_opinions(tmp_path / "picture", pairs=0, liked=8, disliked=8, held_out=0)
    manifest = opinions[0]
    rows = [
        row.model_copy(update={"split": Split.HELD_OUT if index % 4 == 0 else Split.TRAIN})
        for index, row in enumerate(manifest.rows)
    ]
    changes: dict[str, Any] = {**WIDE, "steps": 40, "batch_size": 8, "evaluate_every": 20, "sft_weight": 0.0}
    opinions = (PreferenceManifest(rows=tuple(rows)), opinions[1])
    report, _, _ = run_once(model_folder, opinions, tmp_path, ema_decay=0.5, **changes)
    assert report.first_loss == pytest.approx(0.5, abs=0.1)  # one half for each, by its weight
    assert report.looks[-1].margin > 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "gradient_checkpointing": True,
            "gradient_accumulation": 2,
            "beta": None,
            "preserve_prompts": ("", "a red star", "a blue ring"),
        },
    ],
)
def test_a_run_that_was_stopped_ends_with_the_very_same_weights(
    model_folder: Path, opinions: Opinions, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole, tuning, _ = run_once(model_folder, opinions, tmp_path / "whole", **changes)
    undisturbed = weights_of(tuning)
    checkpoint: Path | None = None
    for leg in range(3):
        watcher = Watcher(stop_after=2 if leg < 2 else None)
        try:
            report, tuning, _ = run_once(
                model_folder, opinions, tmp_path / f"{leg}", resume_from=checkpoint, watcher=watcher, **changes
            )
        except JobStopped:
            (checkpoint,) = watcher.kept
            config = make_run(make_preference_plan(**changes), tmp_path).config_sha256
            assert find_fault(checkpoint, config_sha256=config) is None
    assert report.resumed_from_step == 4
    assert same(undisturbed, weights_of(tuning))
    assert (report.looks, report.best_step, report.first_loss, report.final_beta) == (
        whole.looks,
        whole.best_step,
        whole.first_loss,
        whole.final_beta,
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_begins_even_learns_and_resumes(
    model_folder: Path, opinions: Opinions, tmp_path: Path, precision: str
) -> None:
    changes: dict[str, Any] = {"mixed_precision": precision, "steps": 4}
    watcher = Watcher(stop_after=2)
    with pytest.raises(JobStopped):
        run_once(model_folder, opinions, tmp_path / "a", watcher=watcher, **changes)
    report, tuning, _ = run_once(model_folder, opinions, tmp_path / "b", resume_from=watcher.kept[0], **changes)
    assert report.resumed_from_step == 2 and 0.3 < report.first_loss < 1.0
    assert any(weight.abs().sum() > 0 for name, weight in weights_of(tuning).items() if "lora_B" in name)


KILLED = """
import sys, torch
from pathlib import Path
from tests.training_bench import *
from worker.training.preference import PreferenceTuning
torch.set_num_threads(1)
model, folder = Path(sys.argv[1]), Path(sys.argv[2])
class Announcer(Watcher):
    def keep(self, checkpoint, *, step):
        print(checkpoint, flush=True)
        if step == 5:
            sys.stdin.read()  # the end comes from outside
plan = make_preference_plan(beta=None)
tuning = PreferenceTuning(model, *make_opinions(folder / "picture"), plan=plan, device="cpu")
tuning.prepare(lambda _: None)
tuning.train(make_run(plan, folder, checkpoint_seconds=0.0), Announcer())
"""


def test_a_run_that_was_killed_ends_with_the_very_same_weights(
    model_folder: Path, opinions: Opinions, tmp_path: Path
) -> None:
    _, tuning, _ = run_once(model_folder, opinions, tmp_path / "whole", beta=None)
    undisturbed = weights_of(tuning)
    command = [sys.executable, "-c", KILLED, str(model_folder), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        kept = [Path(child.stdout.readline().strip()) for _ in range(5)]
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    for checkpoint in (kept[1], kept[3]):
        _, tuning, _ = run_once(model_folder, opinions, tmp_path / "again", resume_from=checkpoint, beta=None)
        assert same(undisturbed, weights_of(tuning))


def test_the_same_opinions_give_the_same_bytes_whatever_their_ids_order_and_version(
    model_folder: Path, opinions: Opinions, tmp_path: Path
) -> None:
    manifest, pictures = opinions
    report, tuning, _ = run_once(model_folder, opinions, tmp_path / "a")
    first = export(tuning, report, tmp_path / "one")
    renamed = [
        row.model_copy(update={"feedback_id": uuid4(), "picture": row.picture.model_copy(update={"image_id": uuid4()})})
        for row in reversed(manifest.rows)
    ]
    plan = make_preference_plan().model_copy(update={"adapter_version": 2, "dataset_digest": "1" * 64})
    again = PreferenceTuning(model_folder, PreferenceManifest(rows=tuple(renamed)), pictures, plan=plan, device="cpu")
    again.prepare(lambda _: None)
    second = export(again, again.train(make_run(plan, tmp_path / "b"), Watcher()), tmp_path / "two")
    assert first == second
    fewer = PreferenceManifest(rows=manifest.rows[:-1])
    report, tuning, _ = run_once(model_folder, (fewer, pictures), tmp_path / "c")
    assert export(tuning, report, tmp_path / "three") != first


def test_the_files_say_what_they_are(model_folder: Path, opinions: Opinions, tmp_path: Path) -> None:
    report, tuning, _ = run_once(model_folder, opinions, tmp_path)
    model = ModelHandle(UUID(int=2), "random", "/x", None, LoadOptions())
    manifest = tuning.export(report, model=model, folder=tmp_path / "out")
    assert (manifest.name, manifest.version, manifest.trigger_word) == ("learned", 1, None)
    assert manifest.training_spec is not None and manifest.training_spec["beta"] == 100.0
    with safe_open(tmp_path / "out" / ADAPTER, framework="pt") as file:
        said = file.metadata()
    assert said["modelspec.title"] == "learned" and "opinions" in said["ss_training_comment"]
    assert said["ss_num_train_images"] == "10"  # three pairs and four single pictures
    fresh = make_pipeline()
    fresh.load_lora_weights(tmp_path / "out" / ADAPTER, adapter_name="it", use_safetensors=True)


def test_without_held_out_rows_it_goes_all_the_way_and_says_so(model_folder: Path, tmp_path: Path) -> None:
    opinions = make_opinions(tmp_path / "picture", held_out=0)
    report, _, _ = run_once(model_folder, opinions, tmp_path, steps=3)
    assert (report.steps, report.best_step, report.looks) == (3, 3, ())
    assert report.stop_reason == "all 3 steps were taken"


def test_nothing_but_held_out_rows_is_refused(model_folder: Path, tmp_path: Path) -> None:
    opinions = make_opinions(tmp_path / "picture", pairs=2, liked=0, disliked=0, held_out=2)
    with pytest.raises(DatasetUnusable, match="no row to train on"):
        run_once(model_folder, opinions, tmp_path)
