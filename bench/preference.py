"""Preference training steps per second ÷ those of a loop that makes four separate forwards.

`python -m bench.preference`. The plain side asks policy and reference for chosen and rejected pictures one after the
other, as a first implementation would; it has the same kept latents and embeddings, the same loss, optimizer and
clipping. Ours asks the policy once for all pictures, and the base once for each batch until the batches come round
again: a run here goes round `--rounds-of-noise` times. One process, one learner; the sides take turns.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import torch
from PIL import Image

from bench import report
from bench.training import THREADS, TINY, Silent
from core.domain.base_model import LoadOptions
from core.domain.model_update import Split
from core.domain.preference import PictureRef, PreferenceKind, PreferencePlan, PreferenceRecipe, PreferenceRow
from worker.engine.denoiser import Condition, Denoiser
from worker.engine.pipeline import load_pipeline
from worker.training.learner import Learner
from worker.training.loop import TrainingRun, train
from worker.training.opinion_shelf import OpinionShelf
from worker.training.preference_data import PreferenceSource
from worker.training.preference_loss import PreferenceLoss, dpo_loss

TARGET = 1.3
PAIRS, DRAWS = 32, 2
SIDE = 64


def main() -> bool:
    """Measure and print; the figures are optimizer steps per second; whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--batch", type=int, default=8, help="pairs")
    parser.add_argument("--rounds-of-noise", type=int, default=3, help="times that a run goes round its draws")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    steps = asked.rounds_of_noise * PAIRS * DRAWS // asked.batch
    plan = make_plan(steps=steps, batch=asked.batch)
    pipeline = load_pipeline(asked.model, LoadOptions(dtype="float32"), device="cpu")
    learner = Learner(pipeline, plan, device=torch.device("cpu"))
    start = {name: weight.detach().clone() for name, weight in learner.parameters().items()}
    with tempfile.TemporaryDirectory() as folder:
        rows, pictures = make_rows(Path(folder))
        shelf = OpinionShelf(rows, pictures, learner, resolution=SIDE)
        shelf.fill()

        def ours() -> float:
            renew(learner, start)
            return steps / trained(learner, PreferenceSource(rows, shelf, learner, plan), plan, Path(folder))

        def plain() -> float:
            renew(learner, start)
            return steps / four_forwards(learner, rows, shelf, plan)

        sides = {"four forwards": plain, "ours": ours}
        report.interleave(1, sides)  # warm
        figures = report.interleave(asked.rounds, sides)
    ratio = statistics.median(a / b for a, b in zip(figures["ours"], figures["four forwards"], strict=True))
    return report.write("preference", unit="steps/s", figures=figures, ratio=ratio, target=TARGET)


def make_plan(*, steps: int, batch: int) -> PreferencePlan:
    """A plan with the defaults of a preference training, at the tiny model's size."""
    spec = PreferenceRecipe(steps=steps, batch_size=batch, gradient_accumulation=1, noise_draws=DRAWS, beta=1000.0)
    return PreferencePlan(
        spec=spec,
        name="bench",
        base_model="lorikeet-tiny",
        adapter_version=1,
        alpha=float(spec.rank),
        resolution=SIDE,
        seed=1,
        dataset_digest="0" * 64,
    )


def make_rows(folder: Path) -> tuple[list[PreferenceRow], dict[str, Path]]:
    """Pairs of noise: speed does not look at pictures."""
    rng = np.random.default_rng(0)
    refs = []
    for index in range(2 * PAIRS):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)).save(path)
        refs.append(PictureRef(image_id=UUID(int=index), object_key=str(path), sha256=str(index)))
    rows = [
        PreferenceRow(
            feedback_id=UUID(int=index),
            kind=PreferenceKind.PAIR,
            prompt=f"picture {index}",
            picture=refs[2 * index],
            rejected=refs[2 * index + 1],
            weight=1.0,
            split=Split.TRAIN,
        )
        for index in range(PAIRS)
    ]
    return rows, {ref.sha256: Path(ref.object_key) for ref in refs}


@torch.no_grad()
def renew(learner: Learner, start: dict[str, torch.Tensor]) -> None:
    """Make the adapter a fresh one again."""
    for name, weight in learner.parameters().items():
        weight.copy_(start[name])


def trained(learner: Learner, source: PreferenceSource, plan: PreferencePlan, folder: Path) -> float:
    """Seconds for the steps of a plan."""
    run = TrainingRun(plan=plan, folder=folder, config_sha256="", checkpoint_seconds=1e9)
    loss = PreferenceLoss(plan.spec, device=learner.device)
    start = time.perf_counter()
    train(learner, source, loss, run=run, watch=Silent())
    return time.perf_counter() - start


def four_forwards(learner: Learner, rows: list[PreferenceRow], shelf: OpinionShelf, plan: PreferencePlan) -> float:
    """Seconds for as many steps on the same pairs with one forward after the other."""
    spec, denoiser = plan.spec, learner.denoiser
    weights = list(learner.parameters().values())
    optimizer = torch.optim.AdamW(weights, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    start = time.perf_counter()
    for step in range(spec.steps):
        taken = [rows[(step * spec.batch_size + i) % len(rows)] for i in range(spec.batch_size)]
        condition = shelf.condition([row.prompt for row in taken])
        sides = [
            torch.cat([shelf.latent(row.picture.sha256) for row in taken]),
            torch.cat([shelf.latent(row.rejected.sha256) for row in taken if row.rejected is not None]),
        ]
        timesteps = torch.randint(denoiser.timesteps, (len(taken),))
        noise = torch.randn(sides[0].shape)
        answers = [predict(denoiser, latents, condition, timesteps, noise) for latents in sides]
        learner.switch(False)
        with torch.no_grad():
            references = [predict(denoiser, latents, condition, timesteps, noise) for latents in sides]
        learner.switch(True)
        targets = [denoiser.target(latents, noise, timesteps) for latents in sides]
        errors = [mean_square(answer - target) for answer, target in zip(answers, targets, strict=True)]
        before = [mean_square(reference - target) for reference, target in zip(references, targets, strict=True)]
        chosen, rejected = (b - e for b, e in zip(before, errors, strict=True))
        assert spec.beta is not None
        loss = dpo_loss(chosen, rejected, beta=spec.beta).mean() + spec.sft_weight * errors[0].mean()
        moved = [mean_square(answer - reference) for answer, reference in zip(answers, references, strict=True)]
        (loss + spec.anchor_weight * torch.cat(moved).mean()).backward()
        torch.nn.utils.clip_grad_norm_(weights, spec.max_gradient_norm, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def predict(
    denoiser: Denoiser, latents: torch.Tensor, condition: Condition, timesteps: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """The UNet's answer to noisy pictures."""
    return denoiser.predict(denoiser.add_noise(latents, noise, timesteps), timesteps, condition)


def mean_square(difference: torch.Tensor) -> torch.Tensor:
    """Of each picture (n,)."""
    return difference.square().mean(dim=(1, 2, 3))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
