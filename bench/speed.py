"""Images per second of the engine, with each option of a model, ÷ the best that a bare diffusers loop does.

`python -m bench.speed --device cuda --models sd15`. Threads ask the engine as a worker's do, and it answers as it
answers them; the bare loop calls its pipeline with one batch after the other, of the size that suits it best. What a
model FLOPs utilization is a share of, is measured: a product of two large matrices.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import torch
from torch._dynamo.utils import counters

from bench import model
from bench.claim import Claim, Figures, medians, ratio, take_turns, write
from bench.latency import engine_alone
from bench.lora_file import as_asked, save_lora
from bench.mixed_lora import flops, make_plan
from bench.peer import Diffusers
from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.generation import GenerationPlan, ResolvedAdapter
from worker.engine.image_engine import ImageEngine

THREADS = 1
SWAPS = 50
_TO_WARM_UP = 5
PRODUCT = {"cpu": 1024, "cuda": 8192}
OPTIONS: dict[str, dict[str, Any]] = {
    "without graphs": {"cuda_graphs": False},
    "as it comes": {},
    "channels last": {"channels_last": True},
    "attention by cuDNN": {"attention": "cudnn"},
    "compiled": {"compile": True},
    "compiled, without graphs": {"compile": True, "cuda_graphs": False},
}
TARGETS = {"cpu": 0.9, "cuda": 0.95, "r16 attention": 0.95, "r64 all layers": 0.85}


def main(given: Sequence[str] | None = None) -> bool:
    """Measure and print; the figures are images per second. LoRAs are for the first of the options.

    Whether all targets are met.
    """
    parser = model.parser(__doc__, models=("tiny",), rounds=5)
    parser.add_argument("--options", nargs="*", choices=OPTIONS, default=["as it comes"])
    parser.add_argument("--kinds", nargs="*", default=["r16 attention", "r64 all layers"], help="of LoRAs")
    parser.add_argument("--rows", type=int, default=8, help="of the engine's batch")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4, 8], help="of the bare loop's batches")
    parser.add_argument("--images", type=int, default=32, help="of a round")
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args(given)
    torch.set_num_threads(THREADS)
    met = [measure(name, asked) for name in asked.models]
    return all(met)


def measure(name: str, asked: Any) -> bool:
    """The engine with every option, each side in turn."""
    plan = make_plan(name, steps=asked.steps, guidance=1.0)
    with ExitStack() as stack:
        diffusers = Diffusers(model.load(name, device=asked.device), plan)
        crowds = {label: Crowd(name, OPTIONS[label], plan, asked, stack) for label in asked.options}
        sides: dict[str, Callable[[], float]] = {
            **{f"bare loop of {size}": bare_loop(diffusers, size, asked.images) for size in asked.sizes},
            **{label: crowd.draw for label, crowd in crowds.items()},
        }
        first = crowds[asked.options[0]]
        memory = first.bytes_on_device()
        for kind in asked.kinds:
            first.bring(kind, diffusers.pipeline)
            sides[f"{asked.options[0]}, {kind}"] = first.dressed(kind)
        figures = take_turns(asked.rounds, sides)
        swaps = first.forms_of_swaps(asked.kinds[0]) if first.is_compiled else None
        setting = {
            "model": name, "device": asked.device, "rows": asked.rows, "steps": asked.steps, "threads": THREADS,
            "picture_flops": picture_flops(diffusers), "device_flops": device_flops(asked.device, first.dtype),
            "bytes_of_loras": first.bytes_of_loras() if asked.kinds else None, **memory,
        }  # fmt: skip
    claims = list(claims_of(figures, swaps, setting, asked))
    stem = model.stem("speed", name, asked)
    command = "python -m bench.speed"
    return write(stem, claims, command=command, figures=figures, setting=setting, to=asked.results)


class Crowd:
    """Threads that ask an engine of their own, whose model is loaded with these options."""

    def __init__(
        self, name: str, options: Mapping[str, Any], plan: GenerationPlan, asked: Any, stack: ExitStack
    ) -> None:
        self._plan, self._images, self._name = plan, asked.images, name
        self._data = Path(stack.enter_context(TemporaryDirectory()))
        self._engine: ImageEngine = stack.enter_context(
            engine_alone(asked.device, batch_rows=asked.rows, data_dir=self._data, device_adapter_bytes=2**36)
        )
        self._threads = stack.enter_context(ThreadPoolExecutor(2 * asked.rows))
        source = str(model.folder_of(name).resolve())
        self._handle = ModelHandle(UUID(int=0), name, source, None, LoadOptions(**options))
        self._adapters: dict[str, list[ResolvedAdapter]] = {}
        self.is_compiled = bool(options.get("compile"))
        self.dtype = torch.bfloat16 if asked.device == "cuda" else torch.float32

    def bring(self, kind: str, pipeline: Any) -> None:
        """LoRAs of this kind, on the disk."""
        folder = self._data / "cache" / "adapter"
        files = Path("data") / "bench" / "lora" / self._name / kind.replace(" ", "-")
        known = sorted(files.glob("*.safetensors"))
        while len(known) < self._images:
            known.append(save_lora(files, pipeline, kind=kind, seed=len(known)))
        folder.mkdir(parents=True, exist_ok=True)
        for file in known[: self._images]:
            shutil.copy(file, folder)
        self._adapters[kind] = [as_asked(file) for file in known[: self._images]]

    def draw(self) -> float:
        """Pictures without any LoRA."""
        return self._draw([()] * self._images)

    def dressed(self, kind: str) -> Callable[[], float]:
        """Every picture with a LoRA of its own."""
        return lambda: self._draw([(each,) for each in self._adapters[kind]])

    def forms_of_swaps(self, kind: str) -> int:
        """What had to be compiled anew while every picture had another LoRA than the one before."""
        adapters = self._adapters[kind]

        def swap(number: int) -> None:
            self._draw([(adapters[(number + row) % len(adapters)],) for row in range(2)])

        for number in range(_TO_WARM_UP):
            swap(number)
        before = counters["stats"]["unique_graphs"]
        for number in range(SWAPS):
            swap(number)
        return int(counters["stats"]["unique_graphs"] - before)

    def bytes_on_device(self) -> dict[str, int]:
        """That the model takes once it has drawn, and the most that it takes while whole batches are drawn."""
        if not torch.cuda.is_available():
            return {}
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.draw()
        most, after = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        return {"resident_bytes": after - before, "peak_bytes": most - before}

    def bytes_of_loras(self) -> float:
        """In memory, ÷ those of the files."""
        tiers = self._engine.holding().adapters
        held = tiers["device" if tiers["device"].adapters else "host"].size_bytes
        return held / sum(file.stat().st_size for file in (self._data / "cache" / "adapter").iterdir())

    def _draw(self, mixes: Sequence[tuple[ResolvedAdapter, ...]]) -> float:
        def ask(seed: int) -> None:
            plan = self._plan.model_copy(update={"seed": seed, "adapters": mixes[seed]})
            self._engine.generate(self._handle, plan, on_step=lambda _step, _of: None, should_stop=lambda: False)

        return float(len(list(self._threads.map(ask, range(len(mixes))))))


def bare_loop(diffusers: Diffusers, size: int, images: int) -> Callable[[], float]:
    """Batches of a size, one after the other."""
    return lambda: float(sum(len(diffusers.draw(range(start, start + size))) for start in range(0, images, size)))


def picture_flops(diffusers: Diffusers) -> int:
    """Floating-point operations of one picture, its decoding included."""
    with flops() as counted:
        diffusers.draw([0])
    return int(counted.get_total_flops())


def device_flops(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second in a product of two large matrices; the median of ten."""
    side = PRODUCT[device]
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        product = one @ other
        product[0, 0].item()  # waits for it
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / statistics.median(seconds[2:]))


def claims_of(figures: Figures, swaps: int | None, setting: Mapping[str, Any], asked: Any) -> Iterator[Claim]:
    """Against the best bare loop, and the dressed against the undressed."""
    rates = medians(figures)
    loops = {side: rate for side, rate in rates.items() if side.startswith("bare loop")}
    best = max(loops, key=lambda side: loops[side])
    for label in asked.options:
        share = rates[label] * setting["picture_flops"] / setting["device_flops"]
        yield Claim(
            1,
            f"images/s of the engine ({label}) ÷ the best bare loop",
            ratio(figures, label, best),
            TARGETS[asked.device],
            peers={f"{side}, images/s": rate for side, rate in loops.items()},
            note=f"{rates[label]:.2f} images/s, {share:.0%} of the FLOP/s of a product of large matrices",
        )
    first = asked.options[0]
    for kind in asked.kinds:
        yield Claim(
            2,
            f"images/s of the engine ({first}) with another {kind} LoRA on each picture ÷ without any",
            ratio(figures, f"{first}, {kind}", first),
            TARGETS[kind],
            note=f"{rates[f'{first}, {kind}']:.2f} images/s",
        )
    if asked.kinds:
        yield Claim(
            10,
            "bytes of LoRAs in memory ÷ of their files",
            setting["bytes_of_loras"],
            1.1,
            True,
            note=memory_taken(setting),
        )
    if swaps is not None:
        yield Claim(2, f"blocks compiled anew during {SWAPS} swaps of LoRAs ({first})", float(swaps), 0.0, True)


def memory_taken(setting: Mapping[str, Any]) -> str:
    """The device's memory, where there is a device."""
    if "peak_bytes" not in setting:
        return ""
    model, peak = (setting[name] / 2**30 for name in ("resident_bytes", "peak_bytes"))
    return f"the model takes {model:.1f} GiB, and {peak:.1f} GiB at most while it draws"


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
