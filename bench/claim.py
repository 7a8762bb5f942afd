"""What the engine's benches share: sides that take turns, wall and CPU time, claims against targets, a JSON file."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import report

Figures = dict[str, dict[str, list[float]]]
"""By side: what it did a second of wall time, and a second of this process's CPU time, in each round."""


@dataclass(frozen=True)
class Claim:
    """A line of docs/performance.md: a figure, beside what others have of it, and what it should be.

    `value` is by wall time, `by_cpu` the same by CPU time where that says more on a busy machine.
    """

    row: int
    figure: str
    value: float
    target: float
    at_most: bool = False
    peers: Mapping[str, float] = field(default_factory=dict)
    by_cpu: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target

    def __str__(self) -> str:
        by_cpu = "" if self.by_cpu is None else f" ({self.by_cpu:.3f} by CPU time)"
        peers = "".join(f"\n{'':>8}{name}: {value:.3f}" for name, value in self.peers.items())
        goal = f"target {'≤' if self.at_most else '≥'} {self.target}: {'met' if self.is_met else 'NOT met'}"
        return f"{self.figure}: {self.value:.3f}{by_cpu}, {goal}{f'; {self.note}' if self.note else ''}{peers}"


def take_turns(rounds: int, sides: Mapping[str, Callable[[], float]]) -> Figures:
    """Every side once a round, after one round to warm up. A side does its work and says how much it was."""
    figures: Figures = {name: {"wall": [], "cpu": []} for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            tell(f"round {number} of {rounds}: {name}")
            wall, cpu = time.perf_counter(), time.process_time()
            done = work()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number > 0:
                figures[name]["wall"].append(done / wall)
                figures[name]["cpu"].append(done / max(cpu, 1e-9))
    return figures


def tell(progress: str) -> None:
    """Say on stderr how far a bench has come, where somebody watches or a log is kept."""
    print(progress, file=sys.stderr, flush=True)


def ratio(figures: Figures, one: str, other: str, clock: str = "wall") -> float:
    """The median over the rounds of one side's figure ÷ another's in the same round."""
    return statistics.median(a / b for a, b in zip(figures[one][clock], figures[other][clock], strict=True))


def medians(figures: Figures, clock: str = "wall") -> dict[str, float]:
    """Of every side."""
    return {name: statistics.median(side[clock]) for name, side in figures.items()}


def write(
    name: str,
    claims: Sequence[Claim],
    *,
    command: str,
    figures: Mapping[str, Any],
    setting: Mapping[str, Any],
    to: Path,
) -> bool:
    """Print the claims, and keep them with all figures and the machine in `<to>/<name>.json`; whether all are met."""
    for claim in claims:
        print(claim)
    document = {
        "name": name,
        "command": command,
        "claims": [asdict(claim) | {"is_met": claim.is_met} for claim in claims],
        "setting": setting,
        "figures": figures,
    }
    report.keep(name, document, to=to, device=accelerator(str(setting.get("device", "cpu"))))
    return all(claim.is_met for claim in claims)


def accelerator(device: str) -> dict[str, str]:
    """The GPU's name, where one was used."""
    if device != "cuda":
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name()}
