"""What our programs logged, over all their lives: what a killed process counted is gone, what it logged is not."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def has_said(path: Path, event: str, *, after: int) -> bool:
    """Whether an event of that name is in a log beyond its first `after` bytes."""
    with path.open("rb") as file:
        file.seek(after)
        return any(found.get("event") == event for found in _events(file.read().decode(errors="replace").splitlines()))


def said(folder: Path, *, by: str = "*") -> Iterator[dict[str, Any]]:
    """Each event that programs of these names logged; lines that a death cut short are left out."""
    for path in sorted(folder.glob(f"{by}.log")):
        with path.open(errors="replace") as file:
            yield from _events(file)


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
