"""One page of a lineage's rows: feedback itself, what updates used of it, what they left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.lineage import Direction, Place, Section, make_place, not_a_place
from core.infra.repository import lineage as rows
from core.infra.repository.lineage import Ids
from core.infra.table import Artifact, TrainingData, TrainingExclusion, UserFeedback


@dataclass(frozen=True, kw_only=True)
class TracedRow:
    """A word of feedback on one picture. `use` says how an update treated it, None for the feedback by itself."""

    depth: int
    feedback: UserFeedback
    image: Artifact
    use: TrainingData | TrainingExclusion | None


@dataclass(frozen=True)
class Part:
    """One list of rows of a trace, and the feedback that it is about; None for all of the update's."""

    section: Section
    update_id: UUID | None
    depth: int
    given: Ids | None


def read_page(
    session: Session, parts: Sequence[Part], *, direction: Direction, place: Place | None, limit: int
) -> tuple[list[TracedRow], str | None]:
    """The rows behind `place`, part by part, and the cursor of the next page."""
    found: list[tuple[Place, TracedRow]] = []
    for part, after in _from(parts, place):
        room = limit + 1 - len(found)
        if room <= 0:
            break
        for row in _rows(session, part, after=after, limit=room):
            row_id = row.use.id if isinstance(row.use, TrainingData) else row.feedback.id
            found.append((Place(direction, part.section, part.update_id, row_id), row))
    shown = found[:limit]
    cursor = make_place(shown[-1][0]) if len(found) > len(shown) else None
    return [row for _, row in shown], cursor


def _from(parts: Sequence[Part], place: Place | None) -> Iterator[tuple[Part, UUID | None]]:
    if place is None:
        yield from ((part, None) for part in parts)
        return
    names = [(part.section, part.update_id) for part in parts]
    if (place.section, place.update_id) not in names:
        raise not_a_place()
    start = names.index((place.section, place.update_id))
    yield parts[start], place.row_id
    yield from ((part, None) for part in parts[start + 1 :])


def _rows(session: Session, part: Part, *, after: UUID | None, limit: int) -> Iterator[TracedRow]:
    found: Sequence[Sequence[Any]]
    if part.update_id is None:
        assert part.given is not None
        found = [(None, *row) for row in rows.given_rows(session, given=part.given, after=after, limit=limit)]
    elif part.section is Section.LEFT_OUT:
        assert part.given is not None
        found = rows.left_out_rows(session, update_id=part.update_id, given=part.given, after=after, limit=limit)
    else:
        found = rows.used_rows(session, update_id=part.update_id, given=part.given, after=after, limit=limit)
    for use, feedback, image in found:
        yield TracedRow(depth=part.depth, feedback=feedback, image=image, use=use)
