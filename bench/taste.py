"""Does the model learn a taste that nobody puts in words, and does it still draw what it is told?

`python -m bench.taste`. Somebody with a hidden taste (tiny/taste.py) chooses between two pictures that the base model
drew for the same caption, which leaves open what the taste is about; who sees no difference has no opinion. Such
choices train an adapter; about a fifth, by person and by prompt, are held out. Then it draws captions that leave the
taste open, with new seeds, and full captions that the base was never trained on, and the rules of tiny/scorer.py read
the pictures. Every run is written down when it ends; what is in bench/results/taste.json already is not run again.
"""

import argparse
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from PIL import Image

from bench import report
from bench.choice import Pair, endless_pairs
from bench.training import THREADS, TINY, Silent
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.model_update import Split
from core.domain.preference import (
    PictureRef,
    PreferenceKind,
    PreferenceManifest,
    PreferencePlan,
    PreferenceRecipe,
    PreferenceReport,
    PreferenceRow,
)
from tiny import pipeline as tiny_pipeline
from tiny.evaluate import held_out, measure, paint
from tiny.recipe import RECIPES
from tiny.taste import TASTES, Taste, draw_caption
from tiny.world import SIDE, Caption
from worker.training.export import ADAPTER
from worker.training.loop import TrainingRun
from worker.training.preference import PreferenceTuning

PICTURES = 128  # of each kind, for each run
PEOPLE = 20
HELD_OUT_SHARE = 0.1  # of people, and of prompts
TARGETS = {"way": 0.8, "fidelity_fall": 0.02, "accuracy": 0.85, "deviations": 1.0, "training_seconds": 180}
_FRESH = 900_000_000  # seeds of pictures that nobody chose from


@dataclass(frozen=True, slots=True)
class Case:
    """One run: whose taste, on how many choices, a share of them mistaken, and which chance."""

    taste: Taste
    choices: int
    flipped: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.taste.name}, {self.choices} choices, {self.flipped:.0%} flipped, seed {self.seed}"


def main() -> None:
    """Run what is missing, write it down, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tastes", nargs="+", choices=TASTES, default=list(TASTES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--choices", nargs="+", type=int, default=[256])
    parser.add_argument("--flipped", nargs="+", type=float, default=[0.0])
    parser.add_argument("--pool", type=Path, default=Path("data/taste"), help="folder for the base model's pictures")
    parser.add_argument("--results", type=Path, default=report.RESULTS / "taste.json")
    parser.add_argument("--again", action="store_true", help="run what is there as well")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    done: dict[str, Any] = json.loads(asked.results.read_text())["runs"] if asked.results.exists() else {}
    grid = itertools.product(asked.choices, asked.flipped, asked.seeds, asked.tastes)
    for choices, flipped, seed, taste in grid:
        case = Case(TASTES[taste], choices, flipped, seed)
        if asked.again or case.name not in done:
            done[case.name] = examine(case, asked.pool)
            write(done, asked.results)
            print(f"{case.name}: {line(done[case.name])}", flush=True)
    print_table(done)


def examine(case: Case, pool: Path) -> dict[str, Any]:
    """Choose, train, draw, read."""
    choices, base = collect(case, pool)
    with tempfile.TemporaryDirectory() as folder:
        manifest, pictures = write_down(case, choices, Path(folder))
        done, seconds = train(case, manifest, pictures, Path(folder))
        pipeline = tiny_pipeline.load(TINY)
        pipeline.load_lora_weights(folder, weight_name=ADAPTER, use_safetensors=True)
        degrees = read_fresh(case, pipeline)
        fidelity = measure(paint(pipeline, full_captions(case))).all_four
    best = next((look for look in done.looks if look.step == done.best_step), None)
    shift = float(np.mean(degrees) - np.mean(base))
    way = shift / (1 - np.mean(base)) if case.taste.attribute else None
    return {
        "base": float(np.mean(base)),
        "adapter": float(np.mean(degrees)),
        "way": way,
        "deviations": None if case.taste.attribute else shift / float(np.std(base)),
        "base_fidelity": base_fidelity(case, pool),
        "fidelity": fidelity,
        "accuracy": best.accuracy if best else None,
        "held_out": len(manifest.of(Split.HELD_OUT)),
        "trained_on": len(manifest.of(Split.TRAIN)),
        "steps": done.steps,
        "best_step": done.best_step,
        "stop_reason": done.stop_reason,
        "looks": [look.model_dump() for look in done.looks],
        "training_seconds": round(seconds, 1),
    }


def collect(case: Case, pool: Path) -> tuple[list[tuple[Pair, int]], list[float]]:
    """The first pairs on which there is an opinion, with it; and how much the base's pictures are to the taste."""
    found: list[tuple[Pair, int]] = []
    degrees: list[float] = []
    for pair in endless_pairs(tiny_pipeline.load(TINY), seed=case.seed, folder=pool):
        if not case.taste.is_open(pair.caption):
            continue
        degrees += [case.taste.degree(pair.one), case.taste.degree(pair.other)]
        if opinion := case.taste.compare(pair.one, pair.other):
            found.append((pair, opinion))
        if len(found) == case.choices:
            break
    return found, degrees


def write_down(case: Case, choices: list[tuple[Pair, int]], folder: Path) -> tuple[PreferenceManifest, dict[str, Path]]:
    """The manifest of the choices, and the pictures as files."""
    rng = np.random.default_rng([case.seed, 1])
    pictures: dict[str, Path] = {}

    def ref(image: Image.Image) -> PictureRef:
        sha256 = hashlib.sha256(image.tobytes()).hexdigest()
        if sha256 not in pictures:
            pictures[sha256] = folder / f"{sha256}.png"
            image.save(pictures[sha256])
        return PictureRef(image_id=UUID(int=len(pictures)), object_key=sha256, sha256=sha256)

    rows = []
    for index, (pair, opinion) in enumerate(choices):
        person, is_mistaken = int(rng.integers(PEOPLE)), rng.random() < case.flipped
        better, worse = (pair.one, pair.other) if (opinion > 0) != is_mistaken else (pair.other, pair.one)
        is_held_out = is_kept_back(f"person {person}") or is_kept_back(pair.caption.text)
        rows.append(
            PreferenceRow(
                feedback_id=UUID(int=index),
                kind=PreferenceKind.PAIR,
                prompt=pair.caption.text,
                picture=ref(better),
                rejected=ref(worse),
                weight=1.0,
                split=Split.HELD_OUT if is_held_out else Split.TRAIN,
            )
        )
    return PreferenceManifest(rows=tuple(rows)), pictures


def is_kept_back(text: str) -> bool:
    """Whether a hash says so."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") < HELD_OUT_SHARE * 2**32


def train(
    case: Case, manifest: PreferenceManifest, pictures: dict[str, Path], folder: Path
) -> tuple[PreferenceReport, float]:
    """Write the adapter into the folder; gives the CPU seconds it took, loading and encoding included."""
    spec = PreferenceRecipe.model_validate(RECIPES[case.taste.name])
    plan = PreferencePlan(
        spec=spec,
        name="taste",
        base_model="lorikeet-tiny",
        adapter_version=1,
        alpha=float(spec.alpha or spec.rank),
        resolution=SIDE,
        seed=case.seed,
        dataset_digest=manifest.digest,
    )
    start = time.process_time()
    tuning = PreferenceTuning(TINY, manifest, pictures, plan=plan, device="cpu")
    tuning.prepare(lambda _: None)
    run = TrainingRun(plan=plan, folder=folder / "run", config_sha256="", checkpoint_seconds=1e9)
    done = tuning.train(run, Silent())
    seconds = time.process_time() - start
    model = ModelHandle(UUID(int=0), "lorikeet-tiny", str(TINY), None, LoadOptions())
    tuning.export(done, model=model, folder=folder)
    return done, seconds


def read_fresh(case: Case, pipeline: Any) -> list[float]:
    """How much new pictures of captions that leave the taste open are to it."""
    rng = np.random.default_rng([case.seed, 2])
    open_captions = (caption for caption in iter(lambda: draw_caption(rng), None) if case.taste.is_open(caption))
    first = _FRESH + case.seed * PICTURES
    asked = [(caption, first + index) for index, caption in enumerate(itertools.islice(open_captions, PICTURES))]
    return [case.taste.degree(image) for _, image in paint(pipeline, asked)]


def full_captions(case: Case) -> list[tuple[Caption, int]]:
    """Full captions that the base was not trained on, others for each seed."""
    return held_out((case.seed + 1) * PICTURES)[case.seed * PICTURES :]


def base_fidelity(case: Case, pool: Path) -> float:
    """The share of full captions that the base draws; measured once."""
    path = pool / f"fidelity-{case.seed}.json"
    if not path.exists():
        path.write_text(json.dumps(measure(paint(tiny_pipeline.load(TINY), full_captions(case))).all_four))
    return float(json.loads(path.read_text()))


def write(runs: dict[str, Any], path: Path) -> None:
    """All runs so far, and what they amount to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"recipes": RECIPES, "targets": TARGETS, "summary": summarize(runs), "runs": runs}
    path.write_text(json.dumps(document | {"machine": report.machine()}, indent=1) + "\n")


def summarize(runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Means over the seeds of each taste, number of choices and share of mistakes."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        grouped.setdefault(name.rpartition(", seed")[0], []).append(run)
    return {name: dict(figures(group)) for name, group in grouped.items()}


def figures(group: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What is told of runs that differ in their seed only."""
    yield "seeds", len(group)
    for key in ("base", "adapter", "way", "deviations", "base_fidelity", "fidelity", "accuracy", "training_seconds"):
        values = [run[key] for run in group if run[key] is not None]
        yield key, round(float(np.mean(values)), 4) if values else None
    yield "least_way", min((run["way"] for run in group if run["way"] is not None), default=None)


def line(run: dict[str, Any]) -> str:
    """One run or summary in a line."""
    moved = f"way {run['way']:.2f}" if run["way"] is not None else f"{run['deviations']:.2f} deviations"
    accuracy = "none held out" if run["accuracy"] is None else f"held-out accuracy {run['accuracy']:.2f}"
    return (
        f"{run['base']:.3f} → {run['adapter']:.3f} ({moved}), all four right {run['base_fidelity']:.3f} → "
        f"{run['fidelity']:.3f}, {accuracy}, {run['training_seconds']:.0f} s"
    )


def print_table(runs: dict[str, Any]) -> None:
    """The means."""
    for name, summary in summarize(runs).items():
        print(f"{name}, {summary['seeds']} seeds: {line(summary)}")


if __name__ == "__main__":
    main()
