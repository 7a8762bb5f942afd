"""JSON objects from outside: where a name occurs twice, readers disagree about what it means."""

from collections import Counter
from collections.abc import Sequence
from typing import Any


class OccursTwice(ValueError):
    """A name occurs twice in one object."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} occurs twice")
        self.name = name


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` for the standard library's `json`.

    Raises:
        OccursTwice: the first name that does.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise OccursTwice(next(name for name, count in counts.items() if count > 1))
    return value
