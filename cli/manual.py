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
    return _PLACE.sub(lambda found: f"{found[1]}{_TABLES[found[2]]()}{found[3]}", PATH.read_text())


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
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def _figures() -> str:
    return "\n".join(_measured())


def _measured() -> Iterator[str]:
    """A table for each benchmark of the loop that has been run."""
    for name, show in _BENCHMARKS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            yield show(json.loads(path.read_text()))


def _preference(found: Mapping[str, Any]) -> str:
    return (
        f"\nOne step of preference training takes {found['ratio']:.2f} times less than one that makes four separate "
        "forwards (`python -m bench.preference`).\n"
    )


_BENCHMARKS: dict[str, Callable[[Mapping[str, Any]], str]] = {"preference": _preference}
_TABLES: dict[str, Callable[[], str]] = {
    "policy": lambda: _fields(UpdatePolicy),
    "selection": lambda: _fields(SelectionPolicy),
    "gates": lambda: _fields(Gates),
    "rollout": lambda: _fields(RolloutPolicy),
    "figures": _figures,
}

if __name__ == "__main__":
    PATH.write_text(text())
