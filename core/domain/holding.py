"""Holding: what a worker has in memory now, so that it can begin at once on jobs that need just that."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Residency:
    """What one tier holds now, and how often it was asked since the start."""

    adapters: int
    size_bytes: int
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float | None:
        """Share of the questions that it could answer, 0 to 1; None where nobody asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True)
class Holding:
    """Names of the base models by id, and adapters by the name of their tier."""

    models: dict[UUID, str] = field(default_factory=dict)
    adapters: dict[str, Residency] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As `read_holding` takes it."""
        written: dict[str, Any] = _FORM.dump_python(self, mode="json")
        return written


_FORM = TypeAdapter(Holding)
NOTHING = Holding()


def read_holding(written: dict[str, Any]) -> Holding:
    """What `to_json` wrote, whatever else a newer worker wrote beside it."""
    return _FORM.validate_python(written)
