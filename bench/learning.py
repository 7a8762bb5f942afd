"""Does a fine-tuning learn? Twelve pictures of a shape that the base model cannot draw, then pictures held out.

`python -m bench.learning`. Base and adapter draw the same held-out captions from the same seeds; the rules of
`tiny/scorer.py` read the pictures. The denoising error is taken on held-out pictures, with the same noise for both.
`--sheet` puts them side by side: base, adapter, held-out pictures, pictures trained on.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from PIL import Image

from bench import report
from bench.training import THREADS, TINY, Silent
from core.domain.generation import GenerationDefaults
from core.domain.training import TrainingPlan, TrainingSpec
from tiny.scorer import score
from tiny.world import Caption, Shape, draw, full_captions
from worker.engine.denoiser import denoise_error
from worker.training.data import Example, PictureSource
from worker.training.fine_tune import FineTuning
from worker.training.learner import Learner
from worker.training.loop import TrainingRun
from worker.training.sample import draw_samples

Rows = list[list[Image.Image]]
PICTURES, HELD_OUT = 12, 16
SIDE = 64
NOISE_LEVELS = range(50, 1000, 100)
SETTINGS: dict[str, Any] = {
    "rank": 16,
    "learning_rate": 1e-3,
    "steps": 200,
    "batch_size": 8,
    "min_snr_gamma": None,  # it all but ignores the noisy steps, where a velocity model decides the shape
    "target_modules": ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"),
}
DRAWING = GenerationDefaults(width=SIDE, height=SIDE, steps=20, guidance_scale=3.0)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--shape", type=Shape, default=Shape.CRESCENT)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet there")
    parser.add_argument("--settings", type=json.loads, default={}, help="changes to the settings, as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        figures, rows = measure(asked.model, asked.shape, SETTINGS | asked.settings, Path(folder))
        if asked.sheet is not None:
            save_sheet(rows, asked.sheet)
    report.keep("learning", figures)
    print(json.dumps(figures, indent=1))


def measure(model: Path, shape: Shape, settings: dict[str, Any], folder: Path) -> tuple[dict[str, Any], Rows]:
    """Figures of the base and of the adapter on what neither has seen, and the rows of a contact sheet."""
    captions = list(full_captions((shape,)))
    order = np.random.default_rng(5).permutation(len(captions))
    chosen = [captions[i] for i in order[: PICTURES + HELD_OUT]]
    examples = draw_examples(chosen, folder)
    trained_on, held_out = examples[:PICTURES], examples[PICTURES:]
    plan = make_plan(settings)
    tuning = FineTuning(model, trained_on, plan=plan, device="cpu")
    before, base = look(tuning.learner, plan, held_out, chosen[PICTURES:])
    tuning.prepare(lambda _: None)
    run = TrainingRun(plan=plan, folder=folder / "run", config_sha256="", checkpoint_seconds=1e9)
    done = tuning.train(run, Silent())
    after, adapted = look(tuning.learner, plan, held_out, chosen[PICTURES:])
    rows: Rows = [
        base,
        adapted,
        [Image.open(e.path) for e in held_out],
        [Image.open(e.path) for e in trained_on],
    ]
    figures = {
        "settings": settings,
        "base": before,
        "adapter": after,
        "training_seconds": round(done.execution_seconds, 1),
    }
    return figures, rows


def make_plan(settings: dict[str, Any]) -> TrainingPlan:
    """A plan with these settings."""
    spec = TrainingSpec.model_validate({"name": "learning", "dataset_id": UUID(int=0), **settings})
    return TrainingPlan(
        spec=spec,
        base_model="lorikeet-tiny",
        adapter_version=1,
        alpha=float(spec.alpha or spec.rank),
        resolution=SIDE,
        seed=1,
        dataset_digest="0" * 64,
    )


def draw_examples(captions: list[Caption], folder: Path) -> list[Example]:
    """A picture of each caption."""
    rng = np.random.default_rng(6)
    examples = []
    for index, caption in enumerate(captions):
        path = folder / f"{index}.png"
        draw(caption, rng).save(path)
        examples.append(Example(path, caption.text))
    return examples


def look(
    learner: Learner, plan: TrainingPlan, held_out: list[Example], captions: list[Caption]
) -> tuple[dict[str, float], list[Image.Image]]:
    """Shares of pictures with the shape, and with all four attributes, as captioned; the error on held-out ones."""
    images = [
        draw_samples(learner, (example.caption,), seed=100 + index, resolution=SIDE, defaults=DRAWING)[0]
        for index, example in enumerate(held_out)
    ]
    scores = [score(image, caption) for image, caption in zip(images, captions, strict=True)]
    figures = {
        "shape": float(np.mean([s.shape for s in scores])),
        "all_four": float(np.mean([s.all_four for s in scores])),
        "denoise_error": round(held_out_error(learner, plan, held_out), 4),
    }
    return figures, images


@torch.no_grad()
def held_out_error(learner: Learner, plan: TrainingPlan, held_out: list[Example]) -> float:
    """Mean denoising error over pictures and noise levels."""
    every = plan.model_copy(update={"spec": plan.spec.model_copy(update={"batch_size": len(held_out)})})
    batch = PictureSource(held_out, learner, every).take()
    generator = torch.Generator().manual_seed(3)
    errors = []
    for level in NOISE_LEVELS:
        noise = torch.randn(batch.latents.shape, generator=generator)
        timesteps = torch.full((len(held_out),), level)
        errors.append(denoise_error(learner.denoiser, batch.latents, batch.condition, timesteps, noise).mean())
    return float(torch.stack(errors).mean())


def save_sheet(rows: Rows, path: Path) -> None:
    """One row of pictures under the other."""
    sheet = Image.new("RGB", (SIDE * PICTURES, SIDE * len(rows)), "white")
    for top, row in enumerate(rows):
        for left, image in enumerate(row[:PICTURES]):
            sheet.paste(image, (SIDE * left, SIDE * top))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
