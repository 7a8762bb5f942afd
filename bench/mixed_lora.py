"""Images per second of a batch in which every row wears another LoRA ÷ the same batch without any, and ÷ the peers.

`python -m bench.mixed_lora`. Ours go through the engine's own batch. The peers are diffusers and PEFT on the same
weights, with every adapter in memory before the clock starts (but for "load for each request"). All draw the same
pictures, which is checked. The bound is what arithmetic alone would leave of a bare batch: its FLOPs ÷ ours.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import model
from bench.claim import Claim, Figures, medians, ratio, take_turns, write
from bench.lora_file import save_lora
from bench.peer import Diffusers, Peft, Pictures, counted, load_each
from core.domain.base_model import LoadOptions
from core.domain.generation import GenerationPlan, OutputFormat, SchedulerName
from worker.engine.adapter_mix import Mix, Portion
from worker.engine.adapter_reader import read_adapter
from worker.engine.batch import Batch, Seat
from worker.engine.family_model import FamilyModel
from worker.engine.inspection import inspect_pipeline
from worker.engine.picture import Picture
from worker.engine.room import Room

THREADS = 1
ADAPTERS = 100
LOADED_FOR_EACH = 2  # requests of the slowest peer; it does the same for each
TARGETS = {"r16 attention": 0.95, "r64 all layers": 0.85, "r13 all layers": 0.85}
TIMES_BEST_PEER = {"cpu": 1.25, "cuda": 2.0}


def main(given: Sequence[str] | None = None) -> bool:
    """Measure and print; the figures are images per second; whether all targets are met."""
    parser = model.parser(__doc__, models=("tiny", "mid"), rounds=5)
    parser.add_argument("--rows", type=int, default=8, help="of a batch")
    parser.add_argument("--requests", type=int, default=24, help="of a stream over 100 adapters")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0, help="above 1 a picture takes two rows")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    asked = parser.parse_args(given)
    torch.set_num_threads(THREADS)
    met = [measure(name, asked) for name in asked.models]
    return all(met)


def every_row(asked: Any) -> list[int]:
    """As many adapters as a batch has pictures."""
    return list(range(pictures_of_a_batch(asked)))


def uniform(asked: Any) -> list[int]:
    """All adapters are asked for alike."""
    return np.random.default_rng(1).integers(ADAPTERS, size=asked.requests).tolist()


def zipf(asked: Any) -> list[int]:
    """The n-th is asked for 1/n as often as the first."""
    weights = 1 / np.arange(1, ADAPTERS + 1)
    return np.random.default_rng(2).choice(ADAPTERS, size=asked.requests, p=weights / weights.sum()).tolist()


Draw = Callable[[Any], list[int]]
WORKLOADS: dict[str, tuple[str, Draw]] = {
    "rows-r16": ("r16 attention", every_row),
    "rows-r64": ("r64 all layers", every_row),
    "rows-r13": ("r13 all layers", every_row),  # to these small models what r64 is to Stable Diffusion 1.5
    "uniform": ("r16 attention", uniform),
    "zipf": ("r16 attention", zipf),
}


def measure(name: str, asked: Any) -> bool:
    """Every workload on one model."""
    plan = make_plan(name, steps=asked.steps, guidance=asked.guidance)
    claims: list[Claim] = []
    figures: dict[str, Figures] = {}
    for workload in asked.workloads:
        kind, choose = WORKLOADS[workload]
        with TemporaryDirectory() as folder:
            arena = Arena(name, plan, kind=kind, chosen=choose(asked), asked=asked, folder=Path(folder))
            figures[workload] = take_turns(asked.rounds, arena.sides())
            claims += claims_of(workload, arena, figures[workload], asked)
    setting = {"model": name, "device": asked.device, "rows": asked.rows, "steps": asked.steps, "threads": THREADS}
    stem = model.stem("mixed_lora", name, asked)
    command = "python -m bench.mixed_lora"
    return write(stem, claims, command=command, figures=figures, setting=setting, to=asked.results)


class Arena:
    """All sides on one model: ours on one pipeline, the peers on two others of the same weights."""

    def __init__(
        self, name: str, plan: GenerationPlan, *, kind: str, chosen: Sequence[int], asked: Any, folder: Path
    ) -> None:
        pipeline = model.load(name, device=asked.device)
        files = {number: save_lora(folder, pipeline, kind=kind, seed=number) for number in set(chosen)}
        self.wanted = [files[number] for number in chosen]
        self.ours = Ours(pipeline, plan, folder=model.folder_of(name), rows=asked.rows)
        unrecorded = LoadOptions(cuda_graphs=False)  # what is replayed is not seen
        self.counted = Ours(pipeline, plan, folder=model.folder_of(name), rows=asked.rows, options=unrecorded)
        self.mixes = self.ours.read(self.wanted)
        size = pictures_of_a_batch(asked)
        self.peft = Peft(model.load(name, device=asked.device), plan, wanted=self.wanted, rows=size)
        self.bare = Diffusers(model.load(name, device=asked.device), plan)
        self._size = size
        self.check()

    def sides(self) -> dict[str, Callable[[], float]]:
        """Each draws all requests."""
        nothing: list[Mix] = [()] * len(self.mixes)
        return {
            "bare batch": counted(lambda: self.ours.draw(nothing)),
            "bare batch of diffusers": counted(self.bare_batch),
            "ours": counted(lambda: self.ours.draw(self.mixes)),
            "peft adapter_names": counted(self.peft.by_adapter_names),
            "grouped by adapter": counted(self.peft.by_group),
            "set_adapters in turn": counted(self.peft.in_turn),
            "load for each request": counted(lambda: load_each(self.bare, self.wanted[:LOADED_FOR_EACH])),
        }

    def bare_batch(self) -> Pictures:
        """Whole batches without any LoRA, by one call of the pipeline each."""
        seeds = range(len(self.wanted))
        starts = range(0, len(seeds), self._size)
        return [picture for start in starts for picture in self.bare.draw(seeds[start : start + self._size])]

    def check(self) -> None:
        """All draw the same."""
        if self.ours.loaded.pipeline.unet.dtype == torch.float32:
            ours, theirs = self.ours.draw(self.mixes), self.peft.by_adapter_names()
            assert all(np.abs(a - b).max() < 2 / 255 for a, b in zip(ours, theirs, strict=True))

    def bound(self) -> float:
        """What the FLOPs of the LoRAs leave of a bare batch."""
        self.ours.loaded.forget_adapters()  # the pipeline is counted in other hands
        with flops() as bare:
            self.counted.draw([()] * self._size)
        with flops() as mixed:
            self.counted.draw(self.mixes[: self._size])
        return bare.get_total_flops() / mixed.get_total_flops()


class Ours:
    """The engine's own batch, driven by one thread as the engine's is."""

    def __init__(
        self, pipeline: Any, plan: GenerationPlan, *, folder: Path, rows: int, options: LoadOptions | None = None
    ) -> None:
        self.loaded = FamilyModel(pipeline, inspect_pipeline(pipeline, folder), options or LoadOptions())
        self._plan, self._rows = plan, rows
        self._batch = Batch(Room(most_rows=rows, device=self.loaded.device))

    def read(self, files: Sequence[Path]) -> list[Mix]:
        """What request i wears."""
        pipeline, device = self.loaded.pipeline, self.loaded.device
        known = {file: read_adapter(file, pipeline, sha256=file.stem).to(device) for file in set(files)}
        return [(Portion(known[file], 1.0, 1.0),) for file in files]

    @torch.inference_mode()
    def draw(self, mixes: Sequence[Mix]) -> Pictures:
        """Picture i from seed i. As many at once as there is room for, as a worker takes them."""
        waiting = deque(enumerate(mixes))
        ended: dict[int, Picture] = {}
        while waiting or self._batch:
            while waiting and len(self._batch) < self._rows:
                self._join(*waiting.popleft(), ended)
            self._batch.tick()
        return [np.asarray(ended[seed].result(), dtype=np.float32) / 255 for seed in sorted(ended)]

    def _join(self, seed: int, mix: Mix, ended: dict[int, Picture]) -> None:
        plan = self._plan.model_copy(update={"seed": seed})
        [paint] = self.loaded.begin(plan, mix=mix, init_image=None, on_step=lambda _done: None)

        def end(picture: Picture) -> None:
            if picture.error is not None:
                raise picture.error
            ended[seed] = picture

        self._batch.join(Seat(Picture(paint), "bench", self.loaded, wears=mix, should_stop=lambda: False, on_end=end))


def claims_of(workload: str, arena: Arena, figures: Figures, asked: Any) -> Iterator[Claim]:
    """Against a bare batch where every row wears another, else against the best of the others."""
    kind, _ = WORKLOADS[workload]
    rates = medians(figures)
    bare = rates.pop("bare batch")
    diffusers = rates.pop("bare batch of diffusers")
    ours = rates.pop("ours")
    best = max(rates, key=lambda side: rates[side])
    if workload.startswith("rows"):
        yield Claim(
            2,
            f"images/s with another {kind} LoRA on each row ÷ a bare batch",
            ratio(figures, "ours", "bare batch"),
            TARGETS[kind],
            peers={side: rate / bare for side, rate in rates.items()},
            by_cpu=ratio(figures, "ours", "bare batch", "cpu"),
            note=f"arithmetic's bound is {arena.bound():.3f}, and diffusers' bare batch is at {diffusers / bare:.3f}",
        )
    else:
        yield Claim(
            3,
            f"images/s, {len(arena.wanted)} requests {workload} over {ADAPTERS} LoRAs ({kind}), ÷ {best}",
            ratio(figures, "ours", best),
            TIMES_BEST_PEER[asked.device],
            peers={f"{side}, images/s": rate for side, rate in rates.items()},
            by_cpu=ratio(figures, "ours", best, "cpu"),
            note=f"ours {ours:.3f} images/s, bare {bare:.3f}",
        )


def pictures_of_a_batch(asked: Any) -> int:
    """How many fit."""
    return asked.rows // (2 if asked.guidance > 1 else 1)


def make_plan(name: str, *, steps: int, guidance: float) -> GenerationPlan:
    """What every side draws."""
    return GenerationPlan(
        prompt="a large red star on a blue background",
        negative_prompt="",
        model=name,
        width=model.side_of(name),
        height=model.side_of(name),
        steps=steps,
        guidance_scale=guidance,
        seed=0,
        num_images=1,
        scheduler=SchedulerName.DDIM,
        output_format=OutputFormat.PNG,
    )


def product(_sum: Any, one: Sequence[int], other: Sequence[int], **_options: Any) -> int:
    """FLOPs of (parts, rows, inner) by (parts, inner, columns)."""
    return 2 * one[0] * one[1] * one[2] * other[2]


@contextmanager
def flops() -> Iterator[FlopCounterMode]:
    """Counts what is done inside; torch does not know the cost of a product that is added in place."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: product}) as counter:
        yield counter


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
