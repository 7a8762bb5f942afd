"""Lineage: from a picture back to the feedback behind it, and from feedback on to what it changed."""

import base64
import json
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from core.domain.errors import InvalidInput


class Direction(StrEnum):
    """Up is where a thing comes from, down is what came of it."""

    UP = "up"
    DOWN = "down"


class Section(StrEnum):
    """Which list a row of a lineage belongs to."""

    GIVEN = "given"  # feedback itself
    USED = "used"  # what an update trained or was judged on
    LEFT_OUT = "left_out"  # what an update looked at and did not use


@dataclass(frozen=True)
class Place:
    """Where a page ended: the last row's direction, section, update (None for feedback itself) and id."""

    direction: Direction
    section: Section
    update_id: UUID | None
    row_id: UUID


def make_place(place: Place) -> str:
    """A place as opaque text."""
    update_id = str(place.update_id) if place.update_id else None
    said = [place.direction, place.section, update_id, str(place.row_id)]
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def read_place(cursor: str) -> Place:
    """Where the last page ended.

    Raises:
        InvalidInput: not made by `make_place`.
    """
    try:
        direction, section, update_id, row_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        update = None if update_id is None else UUID(update_id)
        return Place(Direction(direction), Section(section), update, UUID(row_id))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise not_a_place() from error


def not_a_place() -> InvalidInput:
    """What is wrong with a cursor that leads nowhere."""
    return InvalidInput.of("cursor", "must be the next_cursor of an earlier page of this lineage")
