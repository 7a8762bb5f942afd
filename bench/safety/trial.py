"""One real turn of the wheel without the servers: opinions, selection, training, evaluation, verdict, and the truth."""

import json
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.safety import truth
from bench.safety.ballot import Pool, state, taste_of, to_opinions
from bench.safety.condition import CONDITIONS, Trial
from bench.training import TINY, Silent
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.evaluation import EvaluationReport
from core.domain.generation import GenerationDefaults, SchedulerName
from core.domain.opinion import Opinion
from core.domain.policy import SelectionPolicy
from core.domain.preference import PreferenceManifest, PreferencePlan, PreferenceRecipe
from core.domain.selection import Selection, select
from worker.evaluation.evaluator import EvaluationSetting
from worker.evaluation.evaluator import evaluate as appraise
from worker.training.loop import TrainingRun
from worker.training.preference import PreferenceTuning

RESOLUTION = 64
DRAWING = GenerationDefaults(
    width=RESOLUTION, height=RESOLUTION, steps=8, guidance_scale=3.0, scheduler=SchedulerName.DDIM
)
"""Fewer steps than users get, for speed; rules read the same in the pictures."""

SELECTION = SelectionPolicy()
MODEL = ModelHandle(UUID(int=0), "lorikeet-tiny", str(TINY), None, LoadOptions())


def name_of(trial: Trial) -> str:
    """A file name of its own for each."""
    condition, taste, seed = trial
    plain = "".join(letter if letter.isalnum() else "-" for letter in condition)
    return f"{plain}-{taste}-{seed}"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left in its folder: the adapter's file, and what is known of it."""

    adapter: Path
    selection: Selection
    pictures: dict[str, Path]
    facts: dict[str, Any]


def train(trial: Trial, pool: Pool, recipe: PreferenceRecipe, *, folder: Path) -> Trained:
    """Select, train and measure the truth, or find in `folder` what an earlier call left there."""
    place = folder / name_of(trial)
    selection, pictures, said = _opinions(trial, pool, folder)
    if not (place / "facts.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        facts = _train(trial, selection.manifest, pictures, recipe, place=place)
        excluded = Counter(str(each.rule) for each in selection.exclusions)
        facts |= {"opinions": said, "excluded": dict(excluded), "raters": selection.raters}
        (place / "facts.json").write_text(json.dumps(facts))
    facts = json.loads((place / "facts.json").read_text())
    return Trained(place / "out" / "adapter.safetensors", selection, pictures, facts)


def _opinions(trial: Trial, pool: Pool, folder: Path) -> tuple[Selection, dict[str, Path], int]:
    condition, taste, seed = trial
    statements = state(CONDITIONS[condition], taste_of(taste), pool.pairs(seed), seed=seed)
    opinions: list[Opinion]
    opinions, pictures = to_opinions(statements, folder=folder / "pictures")
    return select(opinions, SELECTION), pictures, len(opinions)


def _train(
    trial: Trial,
    manifest: PreferenceManifest,
    pictures: dict[str, Path],
    recipe: PreferenceRecipe,
    *,
    place: Path,
) -> dict[str, Any]:
    _, taste, seed = trial
    plan = make_plan(recipe, manifest, seed=seed)
    begun = time.process_time()
    tuning = PreferenceTuning(TINY, manifest, pictures, plan=plan, device="cpu")
    tuning.prepare(lambda _: None)
    run = TrainingRun(plan=plan, folder=place / "run", config_sha256="", checkpoint_seconds=1e9)
    report = tuning.train(run, Silent())
    tuning.export(report, model=MODEL, folder=place / "out")
    trained = time.process_time()
    shutil.rmtree(place / "run", ignore_errors=True)
    found = truth.measure(place / "out" / "adapter.safetensors", TINY, taste_of(taste))
    return {
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "truth": asdict(found),
        "training": report.model_dump(mode="json"),
        "training_seconds": round(trained - begun, 1),
        "truth_seconds": round(time.process_time() - trained, 1),
    }


def evaluate(trained: Trained) -> EvaluationReport:
    """The report of the evaluation room, on the candidate beside the bare base."""
    setting = EvaluationSetting(
        model_folder=TINY,
        options=MODEL.options,
        defaults=DRAWING,
        manifest=trained.selection.manifest,
        pictures=trained.pictures,
        candidate=trained.adapter,
        raters=trained.selection.raters,
        device="cpu",
    )
    return appraise(setting, watch=_Watch()).report


class _Watch:
    def should_stop(self) -> bool:
        return False

    def progress(self, done: int, total: int, message: str) -> None: ...


def make_plan(recipe: PreferenceRecipe, manifest: PreferenceManifest, *, seed: int) -> PreferencePlan:
    """As a model update would plan it."""
    return PreferencePlan(
        spec=recipe,
        name="safety",
        base_model=MODEL.name,
        adapter_version=1,
        alpha=float(recipe.alpha or recipe.rank),
        resolution=RESOLUTION,
        seed=seed,
        dataset_digest=manifest.digest,
    )
