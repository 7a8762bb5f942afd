"""Memory of adapters: bytes resident ÷ bytes of the file, and whether thousands of mixed jobs leave anything behind.

`python -m bench.adapter_memory`. Ours and PEFT each hold the same LoRAs in a process of their own, and the growth of
its resident memory is read. Then one engine serves jobs from many threads: 200 LoRAs of which its budget holds a few,
up to three on a request, sizes, solvers and guidance mixed, some stopped on the way, some with a file that is broken.
"""

import argparse
import gc
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import torch

from bench import model, report
from bench.claim import Claim, write
from bench.latency import engine_alone
from bench.lora_file import KINDS, as_asked, save_lora
from bench.mixed_lora import make_plan
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import AdapterUnusable, JobStopped
from core.domain.generation import GenerationPlan, SchedulerName
from worker.engine.adapter_reader import read_adapter
from worker.engine.image_engine import ImageEngine

THREADS, CLIENTS = 1, 8
HELD = 12
ADAPTERS, BUDGET_SHARE = 200, 0.2
STOPPED, BROKEN = 0.03, 0.02
SAMPLES = 50
TARGETS = {"bytes": 1.1, "growth": 0.05}
SOLVERS = (SchedulerName.DDIM, SchedulerName.EULER, SchedulerName.DPMPP_2M)
SIDES = ("ours", "peft")


def main(given: Sequence[str] | None = None) -> bool:
    """Measure and print; whether all targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=model.NAMES, default="mid", help="that the LoRAs which are held are for")
    parser.add_argument("--kind", choices=KINDS, default="r64 all layers")
    parser.add_argument("--held", type=int, default=HELD, help="LoRAs held at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=10_000, help="of the random mini model; 0 to leave them out")
    parser.add_argument("--hold", choices=SIDES, help="only hold them on one side, and print the bytes as JSON")
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    asked = parser.parse_args(given)
    torch.set_num_threads(THREADS)
    if asked.hold:
        print(json.dumps(hold(asked)))
        return True
    figures: dict[str, Any] = {side: [held_elsewhere(side, asked) for _ in range(asked.rounds)] for side in SIDES}
    claims = list(claims_of_held(figures, asked))
    if asked.jobs:
        figures["jobs"] = run_jobs(asked.jobs)
        claims += claims_of_jobs(figures["jobs"], asked.jobs)
    setting = {"model": asked.model, "kind": asked.kind, "held": asked.held, "jobs": asked.jobs, "adapters": ADAPTERS}
    command = "python -m bench.adapter_memory"
    return write("adapter_memory", claims, command=command, figures=figures, setting=setting, to=asked.results)


def held_elsewhere(side: str, asked: Any) -> float:
    """Resident bytes ÷ file bytes in a process of its own."""
    command = [sys.executable, "-m", "bench.adapter_memory", "--hold", side, "--model", asked.model]
    command += ["--kind", asked.kind, "--held", str(asked.held)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    return float(found["resident"] / found["files"])


def hold(asked: Any) -> dict[str, int]:
    """Read the LoRAs one after the other and keep them; the first is not counted, since it loads code too."""
    pipeline: Any = model.load(asked.model, device="cpu")
    kept: list[Any] = []
    with TemporaryDirectory() as folder:
        files = [save_lora(Path(folder), pipeline, kind=asked.kind, seed=seed) for seed in range(asked.held + 1)]
        before = 0
        for number, file in enumerate(files):
            if asked.hold == "ours":
                kept.append(read_adapter(file, pipeline, sha256=file.stem))
            else:
                pipeline.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name=f"held_{number}", use_safetensors=True
                )
            if number == 0:
                gc.collect()
                before = resident()
        gc.collect()
        return {"resident": resident() - before, "files": sum(file.stat().st_size for file in files[1:])}


def resident() -> int:
    """Bytes of this process in memory, as Linux counts them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def claims_of_held(figures: dict[str, Any], asked: Any) -> Iterator[Claim]:
    """Against the bytes of the files."""
    ratios = {side: statistics.median(figures[side]) for side in SIDES}
    figure = f"resident bytes ÷ file bytes of a LoRA ({asked.kind}, 16-bit file, {asked.model} in 32 bits)"
    yield Claim(10, figure, ratios["ours"], TARGETS["bytes"], at_most=True, peers={"peft": ratios["peft"]})


def run_jobs(count: int) -> dict[str, Any]:
    """Resident and shelved bytes, sampled while the jobs run."""
    with TemporaryDirectory() as folder, TemporaryDirectory() as data:
        cache = Path(data) / "cache" / "adapter"
        pipeline = model.load("mini", device="cpu")
        files = [save_lora(cache, pipeline, kind="r4 attention", seed=seed) for seed in range(ADAPTERS)]
        size = read_adapter(files[0], pipeline, sha256="").size_bytes
        broken = cache / f"{'0' * 64}.safetensors"
        shutil.copy(files[0], Path(folder) / "whole")
        broken.write_bytes((Path(folder) / "whole").read_bytes()[:-100])
        budget = int(BUDGET_SHARE * ADAPTERS * size)
        with engine_alone("cpu", data_dir=Path(data), host_adapter_bytes=budget) as engine:
            jobs = Jobs(engine, files, broken)
            start = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(jobs.run, range(count)))
            seconds = time.perf_counter() - start
            samples = jobs.samples
    return {"seconds": seconds, "budget_bytes": budget, "ends": jobs.ends, "samples": samples}


class Jobs:
    """Mixed requests to one engine; job i is the same in every run."""

    def __init__(self, engine: ImageEngine, files: Sequence[Path], broken: Path) -> None:
        self._engine, self._files, self._broken = engine, files, broken
        folder = str(model.folder_of("mini").resolve())
        self._handle = ModelHandle(UUID(int=0), "mini", folder, None, LoadOptions())
        self._lock = threading.Lock()
        self._every = 0
        self.samples: list[dict[str, int]] = []
        self.ends = {"drawn": 0, "stopped": 0, "broken": 0}

    def run(self, number: int) -> None:
        chance = random.Random(number)
        is_stopped, is_broken = chance.random() < STOPPED, chance.random() < BROKEN
        stop = threading.Event()
        plan = self._plan(number, chance, broken=is_broken)

        def watch(step: int, _of: int) -> None:
            if is_stopped and step > 0:
                stop.set()

        try:
            self._engine.generate(self._handle, plan, on_step=watch, should_stop=stop.is_set)
            end = "drawn"
        except JobStopped:
            end = "stopped"
        except AdapterUnusable:
            end = "broken"
        self._note(end)

    def _plan(self, number: int, chance: random.Random, *, broken: bool) -> GenerationPlan:
        files = [*chance.sample(self._files, chance.choice((0, 1, 1, 1, 2, 3))), *[self._broken] * broken]
        changes = {
            "seed": number,
            "prompt": f"a star, {chance.randrange(1000)}",
            "width": chance.choice((64, 64, 64, 128)),
            "guidance_scale": chance.choice((1.0, 3.0)),
            "scheduler": chance.choice(SOLVERS),
            "adapters": tuple(as_asked(file, weight=chance.uniform(0.2, 1.2)) for file in files),
        }
        return make_plan("mini", steps=2, guidance=1.0).model_copy(update=changes)

    def _note(self, end: str) -> None:
        with self._lock:
            self.ends[end] += 1
            done = sum(self.ends.values())
            if done % SAMPLES == 0:
                held = self._engine.holding().adapters["host"]
                self.samples.append({"jobs": done, "resident": resident(), "adapters": held.size_bytes})


def claims_of_jobs(found: dict[str, Any], count: int) -> Iterator[Claim]:
    """After the first fifth, in which caches fill: the last fifth against the second, by medians."""
    samples = found["samples"]
    fifth = max(1, len(samples) // 5)
    early, late = (
        statistics.median(each["resident"] for each in part) for part in (samples[fifth : 2 * fifth], samples[-fifth:])
    )
    name = f"over {count} mixed jobs with {ADAPTERS} LoRAs"
    yield Claim(
        10, f"growth of resident memory {name}", late / early - 1, TARGETS["growth"], at_most=True,
        note=f"{early / 2**20:.1f} → {late / 2**20:.1f} MiB in {found['seconds']:.0f} s; {found['ends']}",
    )  # fmt: skip
    largest = max(each["adapters"] for each in samples)
    budget = found["budget_bytes"]
    yield Claim(
        10, f"most bytes of LoRAs on the shelf ÷ its budget {name}", largest / budget, 1 + TARGETS["growth"],
        at_most=True, note=f"the budget holds {BUDGET_SHARE:.0%} of them",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
