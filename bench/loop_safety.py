"""Does the loop let through only what is truly better, and does it take back what is not?

`python -m bench.loop_safety` trains what bench/results/loop_safety_runs.jsonl lacks (minutes each), then simulates:
tenants whose feedback is clean, noisy, hostile or poisoned; streams in which neither arm is better; bad champions that
were forced in. It prints tables, and writes bench/results/loop_safety.json and the page and plots of docs/learning/.
What is truly better is said in bench/safety/quality.py.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench import report
from bench.safety import record, table
from bench.safety.alarm import EQUAL, LOOKS, PLAIN, AlarmRow, count_alarms, count_like_rate_alarms
from bench.safety.condition import TRIALS, Trial, by_rounds, is_reckless
from bench.safety.harm import HARMS, HarmRow, force
from bench.safety.record import Record
from bench.safety.world import Step, simulate
from bench.training import THREADS, TINY
from core.domain.policy import UpdatePolicy
from core.domain.preference import PreferenceRecipe
from tiny.recipe import RECIPES

RUNS = report.RESULTS / "loop_safety_runs.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "learning"
UNBOUND: dict[str, Any] = {
    "preserve_prompts": (),
    "strength": 1.0,
    "anchor_weight": 0.0,
    "sft_weight": 0.0,
    "max_error_rise": 1.0,
}
"""What makes a recipe reckless: nothing holds it back, so that shapes and words may suffer."""

POLICY = UpdatePolicy()
"""The defaults that every tenant begins with are what is tested."""


def main() -> None:
    """Train what is missing, simulate, write it down."""
    asked = _arguments()
    torch.set_num_threads(THREADS)
    if not asked.no_training:
        train(asked.folder, most=asked.trials)
    records = record.load(RUNS)
    begun = time.process_time()
    steps = list(simulate(records, POLICY, tenants=asked.tenants, seed=asked.seed))
    strict = list(simulate(records, POLICY, tenants=asked.tenants, seed=asked.seed, approves=False))
    alarms = _alarms(asked.streams, asked.seed)
    harms = [force(harm, runs=asked.runs, policy=POLICY.rollout, seed=asked.seed) for harm in HARMS]
    text = table.page(records, steps, strict, alarms, harms, policy=POLICY)
    print(text)
    write(records, steps, strict, alarms, harms, seconds=time.process_time() - begun)
    PAGE.mkdir(parents=True, exist_ok=True)
    (PAGE / "safety.md").write_text(text)
    table.save_charts(alarms, harms, PAGE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-training", action="store_true", help="simulate with the trials that are there")
    parser.add_argument("--trials", type=int, default=len(TRIALS), help="train no more than so many in this run")
    parser.add_argument("--tenants", type=int, default=24, help="of each condition, of each kind")
    parser.add_argument("--streams", type=int, default=10_000, help="without a difference, of the plain kinds")
    parser.add_argument("--runs", type=int, default=1000, help="of each bad champion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lorikeet-safety")
    return parser.parse_args()


def train(folder: Path, *, most: int) -> None:
    """Run the trials that have no line yet; pictures and adapters are kept in `folder`, for the next run."""
    from bench.safety.ballot import Pool
    from bench.safety.trial import evaluate
    from bench.safety.trial import train as train_one
    from tiny import pipeline as tiny_pipeline

    known = record.done(record.load(RUNS))
    missing = [trial for trial in by_rounds(TRIALS) if trial not in known][:most]
    if not missing:
        return
    pool = Pool(tiny_pipeline.load(TINY), folder / "pool")
    for trial in missing:
        trained = train_one(trial, pool, _recipe(trial), folder=folder / "trials")
        begun = time.process_time()
        found = Record(trial, evaluate(trained), trained.facts)
        found.facts["evaluation_seconds"] = round(time.process_time() - begun, 1)
        verdict = found.judge(POLICY)
        record.append(RUNS, found, verdict)
        print(f"{trial}: {found.difference.says} {found.difference.mean:+.3f}, {verdict.decision}", flush=True)


def _recipe(trial: Trial) -> PreferenceRecipe:
    careful = RECIPES[trial[1]]
    return PreferenceRecipe.model_validate(careful | UNBOUND if is_reckless(trial) else careful)


def _alarms(streams: int, seed: int) -> list[AlarmRow]:
    rows = [
        count_alarms(
            name,
            make,
            streams=streams if name in PLAIN else streams // 10,
            looks=LOOKS,
            policy=POLICY.rollout,
            seed=seed,
        )
        for name, make in EQUAL.items()
    ]
    return [*rows, count_like_rate_alarms(streams=streams, looks=LOOKS, policy=POLICY.rollout, seed=seed)]


def write(
    records: Sequence[Record],
    steps: Sequence[Step],
    strict: Sequence[Step],
    alarms: Sequence[AlarmRow],
    harms: Sequence[HarmRow],
    *,
    seconds: float,
) -> None:
    """All figures, as JSON."""
    document: dict[str, Any] = {
        "trials": table.trial_figures(records, POLICY),
        "updates": table.update_figures(steps),
        "updates_without_approval": table.update_figures(strict),
        "alarms": [table.alarm_figures(row) for row in alarms],
        "bad_champions": [table.harm_figures(row) for row in harms],
        "simulation_seconds": round(seconds, 1),
    }
    report.keep("loop_safety", document)


if __name__ == "__main__":
    main()
