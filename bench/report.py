"""What every benchmark shares: interleaved rounds, medians, the machine, a JSON file of its own."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleave(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure every side once a round, so that a busy moment of the machine hits all alike."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            figures[name].append(measure())
    return figures


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """How many, the median, p95, p99 and the highest."""
    if not values:
        return {"count": 0}
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    return {"count": len(values), "p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(values)}


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor()
    )
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def write(
    name: str, *, unit: str, figures: Mapping[str, list[float]], ratio: float, target: float, at_most: bool = False
) -> bool:
    """Print the medians and the ratio, and keep all figures; whether the target is met."""
    medians = {side: statistics.median(values) for side, values in figures.items()}
    for side, median in medians.items():
        print(f"{side:>32}: {median:10.3f} {unit}  (of {len(figures[side])}: {_spread(figures[side])})")
    print(f"{'ratio':>32}: {ratio:10.3f}")
    document = {
        "name": name,
        "unit": unit,
        "medians": medians,
        "figures": figures,
        "ratio": ratio,
        "target": target,
        "at_most": at_most,
    }
    keep(name, document)
    return is_met("ratio", ratio, target, at_most=at_most)


def is_met(name: str, value: float, target: float, *, at_most: bool) -> bool:
    """Whether a figure is what it should be, said too. A bench whose targets are not all met ends with exit code 1."""
    met = value <= target if at_most else value >= target
    print(f"{name:>32}: target {'≤' if at_most else '≥'} {target:g}, {'met' if met else 'MISSED'}")
    return met


def keep(
    name: str, document: Mapping[str, Any], *, to: Path | None = None, device: Mapping[str, str] | None = None
) -> None:
    """Write what was measured to `<name>.json` in `to`, else `bench/results`, with the machine and the time."""
    stamp = {"machine": machine() | dict(device or {}), "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    folder = to or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**document, **stamp}, indent=1) + "\n")


def _spread(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"
