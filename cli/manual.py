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
    head = (
        "taste, choices, flipped",
        "seeds",
        "to the taste",
        "way to 1",
        "full captions right",
        "held-out accuracy",
        "CPU s",
    )
    rows = [
        (
            name,
            str(each["seeds"]),
            f"{each['base']:.3f} → {each['adapter']:.3f}",
            f"{each['deviations']:.2f} deviations" if each["way"] is None else f"{each['way']:.0%}",
            f"{each['base_fidelity']:.3f} → {each['fidelity']:.3f}",
            "" if each["accuracy"] is None else f"{each['accuracy']:.2f}",
            f"{each['training_seconds']:.0f}",
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


def _loop_safety(found: Mapping[str, Any]) -> str:
    updates, strict = found["updates"], found["updates_without_approval"]
    worst_alarm = max(max(row["promotes"], row["aborts"]) for row in found["alarms"])
    trainings = sum(row["trainings"] for row in found["trials"])
    rows = [
        (f"verdicts simulated, out of {trainings} real trainings", str(updates["verdicts"])),
        ("of them promoted though truly worse, where a person who is asked says yes", _share(updates)),
        ("the same where he says no", _share(strict)),
        (
            "wrong decisions of the live test, looked at after every opinion: the worst of all streams",
            f"{worst_alarm:.2%}",
        ),
        *_rolled_back(found["bad_champions"]),
    ]
    words = (
        "\nWhat verdict, canary and watch let through and stop (`python -m bench.loop_safety`); more of it, by kind of "
        "feedback, in [learning/safety.md](learning/safety.md).\n"
    )
    plots = "".join(f"![{title}](learning/{name}.svg)\n" for name, title in _PLOTS.items())
    return f"{words}{_table(('what', 'figure'), rows)}\n{plots}"


def _share(updates: Mapping[str, Any]) -> str:
    low, high = updates["false_share_95"]
    return f"{updates['promoted_worse']}: {updates['false_share']:.2%} ({low:.2%} to {high:.2%})"


def _rolled_back(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """For each way of saying so, how bad a champion has to be to go nearly always."""
    for name in dict.fromkeys(row["name"] for row in rows):
        rates = [row["rate"] for row in rows if row["name"] == name and row["rolled_back"] >= _ROLLED_BACK]
        reached = f"at {max(rates):.2f} or less" if rates else "at none that was tried"
        yield f"a bad champion, by {name}: rolled back within 200 opinions in {_ROLLED_BACK:.0%} of runs", reached


_ROLLED_BACK = 0.95
_PLOTS = {
    "alarms": "False alarms",
    "choices": "Bad champions rolled back, by choices",
    "thumbs": "Bad champions rolled back, by thumbs",
}
_BENCHMARKS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "taste": _taste,
    "preference": _preference,
    "loop_safety": _loop_safety,
}
_TABLES: dict[str, Callable[[], str]] = {
    "policy": lambda: _fields(UpdatePolicy),
    "selection": lambda: _fields(SelectionPolicy),
    "gates": lambda: _fields(Gates),
    "rollout": lambda: _fields(RolloutPolicy),
    "figures": _figures,
}

if __name__ == "__main__":
    PATH.write_text(text())
