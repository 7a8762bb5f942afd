"""How long requests wait: p99 latency of the engine ÷ the better of the peers', 4 to 50 steps mixed, Poisson arrivals.

`python -m bench.latency`. Requests come at a rate that keeps a first-come-first-served loop over diffusers busy 70 % of
the time. That loop is one peer; the other gathers what waits and draws whole batches. All get the same arrivals on
the same model, in turns. The rows that the UNet computed are counted too, against those that were asked for, and how
many calls of the UNet a request lets go by before it takes part.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from pydantic import SecretStr

from bench import model
from bench.arrival import STEPS, Arrival, Line, Rows, Served, closing, play, poisson
from bench.claim import Claim, tell, write
from bench.mixed_lora import make_plan
from bench.peer import Diffusers
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import JobStopped
from core.domain.generation import GenerationPlan
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.image_engine import ImageEngine

THREADS = 1
LOAD = 0.7
WINDOW = 0.05  # seconds
ROWS = 16
PROBES = 10
TARGETS = {"p99": 0.6, "rows": 1.0, "joins": 1.0}


def main(given: Sequence[str] | None = None) -> bool:
    """Measure and print; the figures are seconds; whether all targets are met."""
    parser = model.parser(__doc__, models=("tiny",), rounds=5)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--requests", type=int, default=100, help="of one round")
    asked = parser.parse_args(given)
    torch.set_num_threads(THREADS)
    met = [measure(name, asked) for name in asked.models]
    return all(met)


def measure(name: str, asked: Any) -> bool:
    """All sides on one model."""
    plan = make_plan(name, steps=STEPS[1], guidance=asked.guidance)
    rows_each = 2 if asked.guidance > 1 else 1
    diffusers = Diffusers(model.load(name, device=asked.device), plan)
    handle = ModelHandle(UUID(int=0), name, str(model.folder_of(name).resolve()), None, LoadOptions())
    with (
        engine_alone(asked.device) as engine,
        closing(Line(diffusers)) as fifo,
        closing(Line(diffusers, size=ROWS // rows_each, window=WINDOW)) as static,
    ):
        ours = Ours(engine, handle, plan)
        sides = {"ours": ours.serve, "one by one": fifo.serve, "static batches": static.serve}
        for serve in sides.values():
            serve(Arrival(0.0, 0, STEPS[0]))
        rate = LOAD / mean_seconds(diffusers)
        joins = [calls_before_joining(ours) for _ in range(PROBES)]
        rounds: dict[str, list[Served]] = {side: [] for side in sides}
        for number in range(asked.rounds):
            arrivals = poisson(asked.requests, rate=rate, seed=number)
            for side, serve in sides.items():
                tell(f"round {number + 1} of {asked.rounds}, {rate:.2f} requests/s: {side}")
                rounds[side].append(play(arrivals, serve, rows_each=rows_each))
    figures: dict[str, Any] = {side: figures_of(each) for side, each in rounds.items()}
    setting = {
        "model": name, "device": asked.device, "requests_a_second": rate, "steps": STEPS, "guidance": asked.guidance,
        "requests": asked.requests, "rows": ROWS, "window_seconds": WINDOW, "threads": THREADS,
    }  # fmt: skip
    claims = list(claims_of(figures, joins))
    figures["calls before joining"] = joins
    stem = model.stem("latency", name, asked)
    command = "python -m bench.latency"
    return write(stem, claims, command=command, figures=figures, setting=setting, to=asked.results)


class Ours:
    """The engine as handlers call it."""

    def __init__(self, engine: ImageEngine, handle: ModelHandle, plan: GenerationPlan) -> None:
        self._engine, self._handle, self._plan = engine, handle, plan

    def serve(self, arrival: Arrival) -> None:
        self.draw(arrival, started=threading.Event(), stopped=threading.Event())

    def draw(self, arrival: Arrival, *, started: threading.Event, stopped: threading.Event) -> None:
        """`started` is set after the first step."""

        def watch(step: int, _of: int) -> None:
            if step > 0:
                started.set()

        plan = self._plan.model_copy(update={"seed": arrival.seed, "steps": arrival.steps})
        with suppress(JobStopped):
            self._engine.generate(self._handle, plan, on_step=watch, should_stop=stopped.is_set)


def mean_seconds(diffusers: Diffusers) -> float:
    """Of a request of the mean number of steps, drawn alone."""
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        diffusers.draw([seed], steps=sum(STEPS) // 2)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def calls_before_joining(ours: Ours) -> int:
    """Whole calls of the UNet between a request's coming and its own first call, while another one is drawn."""
    other_started, started, stopped = threading.Event(), threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool, Rows() as rows:
        pool.submit(ours.draw, Arrival(0.0, 1, 200), started=other_started, stopped=stopped)
        other_started.wait()
        before = rows.calls  # the last of these may still run
        pool.submit(ours.draw, Arrival(0.0, 2, 10), started=started, stopped=stopped)
        started.wait()
        joined = rows.calls
        stopped.set()
    return joined - before - 1


def figures_of(rounds: Sequence[Served]) -> dict[str, Any]:
    """p50 and p99 of each round, and the rows of all."""
    return {
        "p50": [float(np.percentile(each.latencies, 50)) for each in rounds],
        "p99": [float(np.percentile(each.latencies, 99)) for each in rounds],
        "mean": [statistics.fmean(each.latencies) for each in rounds],
        "useful_rows": sum(each.useful_rows for each in rounds),
        "computed_rows": sum(each.computed_rows for each in rounds),
    }


def claims_of(figures: Mapping[str, Any], joins: Sequence[int]) -> Iterator[Claim]:
    """Latency, waste, and joining."""
    for quantile in ("p99", "p50"):
        seconds = {side: statistics.median(each[quantile]) for side, each in figures.items()}
        best = min(("one by one", "static batches"), key=lambda side: seconds[side])
        paired = zip(figures["ours"][quantile], figures[best][quantile], strict=True)
        yield Claim(
            5,
            f"{quantile} latency at {LOAD:.0%} load ÷ {best}",
            statistics.median(a / b for a, b in paired),
            TARGETS["p99"],
            at_most=True,
            peers={f"{side}, seconds": value for side, value in seconds.items()},
        )
    share = {side: each["useful_rows"] / each["computed_rows"] for side, each in figures.items()}
    yield Claim(6, "rows asked for ÷ rows computed", share["ours"], TARGETS["rows"], peers=share)
    yield Claim(
        5, "calls of the UNet that go by before a request takes part, at worst", float(max(joins)), TARGETS["joins"],
        at_most=True, note=f"{statistics.median(joins):g} at the median of {len(joins)}",
    )  # fmt: skip


@contextmanager
def engine_alone(device: str, **changes: Any) -> Iterator[ImageEngine]:
    """An engine without outside systems."""
    with tempfile.TemporaryDirectory() as folder:
        worker: dict[str, Any] = {"data_dir": Path(folder), "device": device, "torch_threads": THREADS}
        settings = Settings(
            _env_file=None,
            database_url="postgresql://nowhere",
            redis_url="redis://nowhere",
            s3_bucket="none",
            s3_endpoint_url="http://127.0.0.1:9",
            s3_access_key_id="none",
            s3_secret_access_key=SecretStr("none"),
            secret_key=SecretStr("x" * 32),
            **worker | {"batch_rows": ROWS} | changes,
        )
        engine = ImageEngine(settings, ObjectStore(settings))
        try:
            yield engine
        finally:
            engine.close()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
