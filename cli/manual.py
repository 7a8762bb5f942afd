"""The tables of docs/learning.md, written from the policies' own fields and from what was measured."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from cli.environment import ROOT
from core.domain.evaluation import Gates
from core.domain.policy import RolloutPolicy, SelectionPolicy, UpdatePolicy

PATH = ROOT / "docs" / "learning.md"
RESULTS = ROOT / "bench" / "results"
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def text() -> str:
    """The whole page, with its tables as they are now."""
    return _PLACE.sub(lambda found: f"{found[1]}{_TABLES[found[2]]()}\n{found[3]}", PATH.read_text())


def _fields(policy: type[BaseModel]) -> str:
    """A row for each field with a plain value."""
    rows = [
        (f"`{name}`", _plain(field.default), field.description or "")
        for name, field in policy.model_fields.items()
        if not isinstance(field.default, BaseModel)
    ]
    return _table(("field", "default", "meaning"), rows)


def _plain(value: object) -> str:
    return "" if value is None else json.dumps(value)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figures() -> str:
    return "".join(_measured())


def _measured() -> Iterator[str]:
    """A table for each benchmark of the loop that has been run."""
    for name, show in _BENCHMARKS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            yield show(json.loads(path.read_text()))


def _taste(found: Mapping[str, Any]) -> str:
    head = ("taste, choices, flipped", "seeds", "to the taste", "way to 1", "full captions right", "held-out accuracy")
    rows = [
        (
            name,
            str(each["seeds"]),
            f"{each['base']:.3f} → {each['adapter']:.3f}",
            f"{each['deviations']:.2f} deviations" if each["way"] is None else f"{each['way']:.0%}",
            f"{each['base_fidelity']:.3f} → {each['fidelity']:.3f}",
            "" if each["accuracy"] is None else f"{each['accuracy']:.2f}",
        )
        for name, each in found["summary"].items()
    ]
    words = (
        "\nWhat choices teach the tiny model (`python -m bench.taste`): how much fresh pictures are to the users' "
        "taste, base → adapter; where no word names the taste, the way is in standard deviations of the base.\n"
    )
    return words + _table(head, rows)


def _preference(found: Mapping[str, Any]) -> str:
    return (
        f"\nA step of preference training runs {found['ratio']:.2f} times as fast as one that makes four separate "
        "forwards (`python -m bench.preference`).\n"
    )


_BENCHMARKS: dict[str, Callable[[Mapping[str, Any]], str]] = {"taste": _taste, "preference": _preference}
_TABLES: dict[str, Callable[[], str]] = {
    "policy": lambda: _fields(UpdatePolicy),
    "selection": lambda: _fields(SelectionPolicy),
    "gates": lambda: _fields(Gates),
    "rollout": lambda: _fields(RolloutPolicy),
    "figures": _figures,
}

if __name__ == "__main__":
    PATH.write_text(text())
