"""The tables and plots of docs/performance.md, written from what is in bench/results: `python -m bench.page`."""

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import report
from bench.bars import Bars, draw

PATH = Path(__file__).parent.parent / "docs" / "performance.md"
PLOTS = PATH.parent / "performance"
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = ("#", "figure", "measured on", "ours", "others, in the same run", "target", "met")

SINGLE = {
    1: ("throughput", "images/s of the whole system ÷ a bare diffusers loop"),
    7: ("round_trip", "round trip of a job that does nothing ÷ stock Celery's `.get()`"),
    8: ("submit", "requests per CPU-second of the API ÷ FastAPI with Celery's `.delay`"),
    9: ("training", "training steps/s ÷ bare forward and backward passes"),
}
"""Benches with one ratio: by their row, the file and what it says."""
TABLES = {
    1: ("speed_*", "images/s of the engine ÷ the best bare loop", "bench.speed"),
    2: ("mixed_lora_*", "images/s with another LoRA on each row ÷ a bare batch", "bench.mixed_lora"),
    3: ("mixed_lora_*", "images/s over 100 LoRAs ÷ the best of the others", "bench.mixed_lora"),
    4: ("cold_adapter_*", "extra ms of a cold LoRA ÷ reading and copying it", "bench.cold_adapter"),
    5: ("latency_*", "p99 latency at 70 % load ÷ the better of the others", "bench.latency"),
    6: ("latency_*", "rows asked for ÷ rows computed", "bench.latency"),
    10: ("adapter_memory", "memory of LoRAs ÷ their files, and its growth", "bench.adapter_memory"),
}
"""Benches with claims: by their row, the files, what they say, and the command."""
ALSO = {2: ("speed_*",), 10: ("speed_*",)}
"""Other files with claims of a row."""
GPU = "the same with models as large as Stable Diffusion 1.5 and XL, on a GPU"


def text(results: Path = report.RESULTS) -> str:
    """The whole page, with its tables as they are now."""
    tables = {
        "figures": lambda: figures(results),
        "machines": lambda: machines(results),
        "plots": lambda: (
            "\n" + "".join(f"![{bars.title}](performance/{name}.svg)\n\n" for name, bars in plots(results))
        ),
    }
    return _PLACE.sub(lambda found: f"{found[1]}{tables[found[2]]()}\n{found[3]}", PATH.read_text())


def figures(results: Path) -> str:
    """A line for each claim, in the order of the rows; a row without a result says so."""
    lines: list[tuple[str, ...]] = []
    for row in sorted(SINGLE.keys() | TABLES.keys()):
        lines += _lines_of(row, results)
    if not any(results.glob("*_cuda.json")):
        lines.append(_missing("1 to 6", GPU, "bench.gpu"))
    return _table(_HEAD, lines)


def machines(results: Path) -> str:
    """Where and when each file was recorded."""
    names = {name for name, _ in SINGLE.values()} | {name for name, _, _ in TABLES.values()}
    paths = sorted({path for name in names for path in results.glob(f"{name}.json")})
    rows = []
    for path in paths:
        found = _read(path)
        machine = found["machine"]
        place = [machine.get("gpu"), f"{machine['cpu']}, {machine['cores']} cores", f"Python {machine['python']}"]
        rows.append((f"`{path.name}`", "; ".join(part for part in place if part), found["measured_at"]))
    return _table(("file", "machine", "measured at"), rows)


def plots(results: Path = report.RESULTS) -> Iterator[tuple[str, Bars]]:
    """Name and chart of every bench that measured sides against each other."""
    for path in sorted(results.glob("throughput.json")):
        found = _read(path)
        ours = frozenset({"whole system"})
        yield path.stem, Bars("Images of the whole system", found["unit"], found["medians"], ours)
    for path in sorted([*results.glob("mixed_lora_*.json"), *results.glob("speed_*.json")]):
        found = _read(path)
        for name, sides in _groups(found["figures"]):
            rates = {side: statistics.median(each["wall"]) for side, each in sides.items()}
            ours = frozenset(side for side in rates if side == "ours" or _is_of_engine(side, found))
            title = f"Images, {_place(found)}{f', {name}' if name else ''}"
            yield "-".join(filter(None, (path.stem, name))), Bars(title, "images/s", rates, ours)
    for path in sorted(results.glob("latency_*.json")):
        found = _read(path)
        waits = {side: each["p99"] for side, each in found["figures"].items() if isinstance(each, dict)}
        medians = {side: statistics.median(each) for side, each in waits.items()}
        title = f"p99 latency at 70 % load, {_place(found)}"
        yield path.stem, Bars(title, "seconds, less is better", medians, frozenset({"ours"}))


def _groups(figures: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Sides by workload, where a bench has several."""
    if all("wall" in each for each in figures.values()):
        yield "", figures
    else:
        yield from figures.items()


def _is_of_engine(side: str, found: Mapping[str, Any]) -> bool:
    return str(found["name"]).startswith("speed") and not side.startswith("bare loop")


def _place(found: Mapping[str, Any]) -> str:
    return f"{found['setting']['model']}, {'GPU' if 'gpu' in found['machine'] else 'CPU'}"


def _lines_of(row: int, results: Path) -> Iterator[tuple[str, ...]]:
    if row in SINGLE:
        name, figure = SINGLE[row]
        path = results / f"{name}.json"
        yield _single(row, figure, _read(path)) if path.exists() else _missing(str(row), figure, f"bench.{name}")
    if row in TABLES:
        pattern, figure, command = TABLES[row]
        paths = [path for each in (pattern, *ALSO.get(row, ())) for path in sorted(results.glob(f"{each}.json"))]
        found = [line for path in paths for line in _claims(row, _read(path))]
        yield from found or [_missing(str(row), figure, command)]


def _single(row: int, figure: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    others = _list(found["medians"], found["unit"])
    ratio, target, at_most = found["ratio"], found["target"], found.get("at_most", False)
    goal = f"{'≤' if at_most else '≥'} {target:g}"
    return (
        str(row),
        figure,
        "CPU",
        f"{ratio:.2f}",
        others,
        goal,
        _yes(ratio <= target if at_most else ratio >= target),
    )


def _claims(row: int, found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    place = _place(found)
    for claim in found["claims"]:
        if claim["row"] != row:
            continue
        value = _plain(claim["value"])
        if claim["by_cpu"] is not None:
            value += f" ({_plain(claim['by_cpu'])} by CPU time)"
        if claim["note"]:
            value += f"; {claim['note']}"
        goal = f"{'≤' if claim['at_most'] else '≥'} {claim['target']:g}"
        yield (str(row), claim["figure"], place, value, _list(claim["peers"]), goal, _yes(claim["is_met"]))


def _missing(row: str, figure: str, command: str) -> tuple[str, ...]:
    return (row, figure, "", f"not recorded yet: `python -m {command}`", "", "", "")


def _list(values: Mapping[str, float], unit: str = "") -> str:
    return ", ".join(f"{name} {_plain(value)}{f' {unit}' if unit else ''}" for name, value in values.items())


def _plain(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _yes(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PATH.write_text(text())
    PLOTS.mkdir(exist_ok=True)
    for plot, shown in plots():
        (PLOTS / f"{plot}.svg").write_text(draw(shown))
