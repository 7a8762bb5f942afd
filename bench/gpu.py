"""The engine's whole table on a GPU, with models as large as Stable Diffusion 1.5 and XL: `python -m bench.gpu`.

Weights are random, made once (8 GB on disk) and never downloaded. `--rehearse` runs the same with models of the same
shape that are small enough for a CPU, once and quickly: its figures mean nothing, and are not kept.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

import torch

from bench import cold_adapter, latency, mixed_lora, report, speed

MODELS, REHEARSED = ("sd15", "sdxl"), ("mini", "mini-xl")
WORKLOADS = ("rows-r16", "rows-r64", "uniform", "zipf")
Bench = Callable[[Sequence[str]], bool]
BENCHES: dict[Bench, tuple[str, ...]] = {
    speed.main: ("--options", "as it comes", "without graphs", "channels last", "compiled"),
    mixed_lora.main: ("--workloads", *WORKLOADS, "--steps", "8"),
    cold_adapter.main: (),
    latency.main: ("--requests", "40"),
}
QUICK: dict[Bench, tuple[str, ...]] = {
    speed.main: ("--kinds", "r16 attention", "--images", "2", "--sizes", "2", "--steps", "1", "--rows", "2"),
    mixed_lora.main: ("--workloads", "rows-r16", "zipf", "--steps", "1", "--rows", "2", "--requests", "2"),
    cold_adapter.main: ("--kinds", "r16 attention"),
    latency.main: ("--requests", "2"),
}


def main(given: Sequence[str] | None = None) -> bool:
    """Run every bench that a GPU changes; whether all targets are met, of those that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rehearse", action="store_true", help="small models on the CPU, one round")
    asked = parser.parse_args(given)
    if asked.rehearse:
        with TemporaryDirectory() as folder:
            for bench, options in QUICK.items():
                bench(["--models", *REHEARSED, "--rounds", "1", "--results", folder, *options])
        return True
    if not torch.cuda.is_available():
        print("This machine has no CUDA device; nothing is measured. `--rehearse` runs it small on the CPU.")
        return True
    common = ["--models", *asked.models, "--device", "cuda", "--rounds", str(asked.rounds)]
    common += ["--results", str(report.RESULTS)]
    met = [bench([*common, *options]) for bench, options in BENCHES.items()]
    return all(met)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
