"""LoRA training steps per second ÷ bare forward and backward passes of the same model on the same kept inputs.

`python -m bench.training`. One process and one learner for both; the sides take turns. The bare side has no
optimizer, no clipping, no data, no metrics: only what no training can do without.

With `--script` diffusers' own `train_text_to_image_lora.py` takes its turn too, on the same pictures with the same
batch, rank and loss. It is in no wheel: it lies under `examples/text_to_image` of diffusers' repository. PyPI's
torchvision, which it needs, goes with PyPI's torch and not with the CPU-only build of that.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import torch
from PIL import Image

from bench import report
from bench.rival.environment import python_with
from core.domain.base_model import LoadOptions
from core.domain.training import TrainingMetric, TrainingPlan, TrainingSpec
from worker.engine.pipeline import load_pipeline
from worker.training.data import Example, PictureSource
from worker.training.learner import Learner
from worker.training.loop import TrainingRun, train
from worker.training.loss import FineTuningLoss

TINY = Path(__file__).parent.parent / "tiny" / "lorikeet-tiny"
TARGET = 0.97
THREADS = 1
PICTURES = 16
SCRIPT = "diffusers' example script"
_WARM_STEPS = 2


class Silent:
    """A watch that asks for nothing."""

    def should_stop(self) -> bool:
        return False

    def record(self, metrics: Sequence[TrainingMetric]) -> None: ...

    def keep(self, checkpoint: Path, *, step: int) -> None: ...

    def sample(self, *, step: int) -> None: ...


def main() -> bool:
    """Measure and print; the figures are optimizer steps per second; whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="steps of one round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--script", type=Path, help="train_text_to_image_lora.py of a copy of diffusers")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    plan = make_plan(steps=asked.steps, batch=asked.batch)
    learner = Learner(
        load_pipeline(asked.model, LoadOptions(dtype="float32"), device="cpu"), plan, device=torch.device("cpu")
    )
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "picture"
        pictures.mkdir()
        source = PictureSource(make_pictures(pictures, plan.resolution), learner, plan)
        source.fill()
        sides = {
            "bare forward and backward": lambda: asked.steps / bare(learner, source, asked.steps),
            "training": lambda: asked.steps / trained(learner, source, plan, Path(folder)),
        }
        if asked.script:
            sides[SCRIPT] = lambda: scripted(asked.script, asked.model, plan, Path(folder))
        report.interleave(1, sides)  # warm
        figures = report.interleave(asked.rounds, sides)
    pairs = zip(figures["training"], figures["bare forward and backward"], strict=True)
    ratio = statistics.median(training / without for training, without in pairs)
    return report.write("training", unit="steps/s", figures=figures, ratio=ratio, target=TARGET)


def make_plan(*, steps: int, batch: int) -> TrainingPlan:
    """A plan with the defaults of a fine-tuning, at the tiny model's size."""
    spec = TrainingSpec(name="bench", dataset_id=UUID(int=0), steps=steps, batch_size=batch)
    return TrainingPlan(
        spec=spec,
        base_model="lorikeet-tiny",
        adapter_version=1,
        alpha=float(spec.rank),
        resolution=64,
        seed=1,
        dataset_digest="0" * 64,
    )


def make_pictures(folder: Path, side: int) -> list[Example]:
    """Noise will do: speed does not look at pictures."""
    rng = np.random.default_rng(0)
    examples = []
    for index in range(PICTURES):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(256, size=(side, side, 3), dtype=np.uint8)).save(path)
        examples.append(Example(path, f"picture {index}"))
    lines = [json.dumps({"file_name": each.path.name, "text": each.caption}) for each in examples]
    (folder / "metadata.jsonl").write_text("\n".join(lines))  # for the script
    return examples


def bare(learner: Learner, source: PictureSource, steps: int) -> float:
    """Seconds for `steps` forward and backward passes on one batch that lies ready."""
    batch = source.take()
    timesteps = torch.randint(1000, (len(batch.latents),))
    target = torch.randn_like(batch.latents)
    unet, text = learner.pipe.unet, batch.condition.hidden_states
    start = time.perf_counter()
    for _ in range(steps):
        predicted = unet(batch.latents, timesteps, text, return_dict=False)[0]
        torch.nn.functional.mse_loss(predicted, target).backward()
        unet.zero_grad()
    return time.perf_counter() - start


def trained(learner: Learner, source: PictureSource, plan: TrainingPlan, folder: Path) -> float:
    """Seconds for the steps of a plan."""
    run = TrainingRun(plan=plan, folder=folder, config_sha256="", checkpoint_seconds=1e9)
    loss = FineTuningLoss(plan.spec.min_snr_gamma)
    start = time.perf_counter()
    train(learner, source, loss, run=run, watch=Silent())
    return time.perf_counter() - start


def scripted(script: Path, model: Path, plan: TrainingPlan, folder: Path) -> float:
    """Steps per second of diffusers' script for the steps of a plan; it encodes pictures and prompts at every step."""
    spec = plan.spec
    options = {
        "pretrained_model_name_or_path": model,
        "train_data_dir": folder / "picture",
        "cache_dir": folder / "cache",
        "output_dir": folder / "script",
        "resolution": plan.resolution,
        "train_batch_size": spec.batch_size,
        "max_train_steps": _WARM_STEPS + 1 + spec.steps,
        "rank": spec.rank,
        "snr_gamma": spec.min_snr_gamma,
        "learning_rate": spec.learning_rate,
        "lr_warmup_steps": spec.warmup_steps,
        "checkpointing_steps": 10**9,
        "seed": plan.seed,
    }
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    minor = int(torch.__version__.split(".")[1])
    python = python_with("datasets", f"torchvision==0.{minor + 15}.0")  # any other brings another torch with it
    command = [str(python), "-m", "bench.rival.example_script", str(_WARM_STEPS), str(script), *given]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
