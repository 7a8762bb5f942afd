"""What our programs logged, over all their lives: what a killed process counted is gone, what it logged is not."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_STACK = "Traceback (most recent call last)"


def has_said(path: Path, event: str, *, after: int) -> bool:
    """Whether an event of that name is in a log beyond its first `after` bytes."""
    with path.open("rb") as file:
        file.seek(after)
        since = file.read().decode(errors="replace")
    return any(found.get("event") == event for found in _events(since.splitlines(), by=path.stem))


def said(folder: Path, *, by: str = "*") -> Iterator[dict[str, Any]]:
    """Each event that programs of these names logged; lines that a death cut short are left out.

    A stack trace that was printed as it came, beside the events, is one too: a critical one.
    """
    for path in sorted(folder.glob(f"{by}.log")):
        with path.open(errors="replace") as file:
            yield from _events(file, by=path.stem)


def _events(lines: Iterable[str], *, by: str) -> Iterator[dict[str, Any]]:
    rest = iter(lines)
    for line in rest:
        try:
            event = json.loads(line)
        except ValueError:
            if _STACK in line:
                stack = line + "".join(_rest_of_stack(rest))
                yield {"event": f"printed by {by}", "level": "critical", "exception": stack}
            continue
        if isinstance(event, dict):
            yield event


def _rest_of_stack(lines: Iterator[str]) -> Iterator[str]:
    """Its frames, and what was raised, which is the first line without an indent."""
    for line in lines:
        yield line
        if not line.startswith(" "):
            return
