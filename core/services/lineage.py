"""Lineage: what made a picture, an adapter or an update what it is, and what came of a word of feedback."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.errors import NotFound
from core.domain.lineage import Direction, Place, Section, not_a_place, read_place
from core.infra.repository import lineage as rows
from core.infra.repository.lineage import Ids
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, Transition, UserFeedback
from core.services import adapter as adapters
from core.services import image as images
from core.services.lineage_page import Part, TracedRow, read_page


@dataclass(frozen=True, kw_only=True)
class Question:
    """Who asks, how many turns of the wheel to walk at most, and which page of the rows to show."""

    tenant_id: UUID
    depth: int = 10
    limit: int = 20
    cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class TracedAdapter:
    """An adapter on the way. `depth` 1 is nearest; `images` counts the pictures it drew that are still kept."""

    depth: int
    adapter: Adapter
    images: int
    moves: Sequence[Transition]


@dataclass(frozen=True, kw_only=True)
class TracedUpdate:
    """An update on the way, with how much feedback it used (by split) and left out (as `excluded`)."""

    depth: int
    update: ModelUpdate
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One direction of a lineage, nearest first. It is incomplete where the walk ended before the way did."""

    adapters: Sequence[TracedAdapter]
    updates: Sequence[TracedUpdate]
    rows: Sequence[TracedRow]
    next_cursor: str | None
    is_complete: bool


@dataclass(frozen=True)
class Traces:
    """Both directions; a cursor asks for the one that it came from, and leaves the other None."""

    up: Trace | None
    down: Trace | None


def of_image(session: Session, question: Question, *, image_id: UUID) -> tuple[Artifact, Job, Traces]:
    """A picture with its job: the adapters it was drawn with and all behind them; what feedback on it changed.

    Raises:
        NotFound: no such picture, or another tenant's.
        InvalidInput: the cursor is not one of this lineage.
    """
    image = images.get(session, tenant_id=question.tenant_id, image_id=image_id)
    given = rows.feedback_on_image(tenant_id=question.tenant_id, image_id=image_id)
    drawn_with = {UUID(credit["id"]) for credit in image.adapters}
    return image, rows.job_of(session, image), _both(session, question, drawn_with=drawn_with, given=given)


def of_adapter(session: Session, question: Question, *, adapter_id: UUID) -> tuple[Adapter, Traces]:
    """An adapter: itself and all behind it; what feedback on its pictures changed.

    Raises:
        NotFound: no such adapter, or another tenant's.
        InvalidInput: the cursor is not one of this lineage.
    """
    adapter = adapters.get(session, tenant_id=question.tenant_id, adapter_id=adapter_id)
    given = rows.feedback_on_adapters(tenant_id=question.tenant_id, adapter_ids=[adapter_id])
    return adapter, _both(session, question, drawn_with={adapter_id}, given=given)


def of_feedback(session: Session, question: Question, *, feedback_id: UUID) -> tuple[UserFeedback, Trace]:
    """What came of a word of feedback: the updates that used it or left it out, their adapters, and so on.

    Raises:
        NotFound: no such feedback, or another tenant's.
        InvalidInput: the cursor is not one of this lineage.
    """
    feedback = rows.feedback_by_id(session, tenant_id=question.tenant_id, feedback_id=feedback_id)
    if feedback is None:
        raise NotFound(f"There is no feedback {feedback_id}.")
    given = rows.feedback_alone(tenant_id=question.tenant_id, feedback_id=feedback_id)
    place = _place(question, {Direction.DOWN})
    return feedback, _down(session, question, given=given, begins_with=(), place=place)


def _both(session: Session, question: Question, *, drawn_with: set[UUID], given: Ids) -> Traces:
    place = _place(question, set(Direction))
    up = down = None
    if place is None or place.direction is Direction.UP:
        up = _up(session, question, drawn_with=drawn_with, place=place)
    if place is None or place.direction is Direction.DOWN:
        itself = Part(Section.GIVEN, None, 0, given)
        down = _down(session, question, given=given, begins_with=(itself,), place=place)
    return Traces(up, down)


def _place(question: Question, possible: set[Direction]) -> Place | None:
    place = read_place(question.cursor) if question.cursor is not None else None
    if place is not None and place.direction not in possible:
        raise not_a_place()
    return place


def _up(session: Session, question: Question, *, drawn_with: set[UUID], place: Place | None) -> Trace:
    """Adapters, the updates that made them, what those were trained on, the adapters that drew it, and on."""

    def behind(level: set[UUID]) -> set[UUID]:
        return rows.adapters_behind(session, adapter_ids=level)

    depths, is_complete = _walk(drawn_with, behind, depth=question.depth)
    found = rows.adapters_by_id(session, tenant_id=question.tenant_id, adapter_ids=depths)
    made_by = {each.model_update_id: depths[each.id] for each in found if each.model_update_id is not None}
    updates = _updates(session, question, made_by)
    parts = [Part(Section.USED, each.update.id, each.depth, None) for each in updates]
    shown, cursor = read_page(session, parts, direction=Direction.UP, place=place, limit=question.limit)
    traced = _adapters(session, {each: depths[each.id] for each in found})
    return Trace(adapters=traced, updates=updates, rows=shown, next_cursor=cursor, is_complete=is_complete)


def _down(
    session: Session, question: Question, *, given: Ids, begins_with: Sequence[Part], place: Place | None
) -> Trace:
    """Updates that used the feedback, their adapters, the updates that used feedback on their pictures, and on."""
    tenant_id = question.tenant_id
    given_at: list[Ids] = []  # the feedback that each level's updates have used
    made: dict[Adapter, int] = {}

    def used(level: Ids) -> set[UUID]:
        given_at.append(level)
        return rows.updates_using(session, given=level)

    def onward(level: set[UUID]) -> set[UUID]:
        found = rows.adapters_of(session, tenant_id=tenant_id, update_ids=level)
        made.update(dict.fromkeys(found, len(given_at)))
        ids = [each.id for each in found]
        return used(rows.feedback_on_adapters(tenant_id=tenant_id, adapter_ids=ids)) if ids else set()

    depths, is_complete = _walk(used(given), onward, depth=question.depth)
    left_out = rows.updates_leaving_out(session, given=given)
    listed = _updates(session, question, dict.fromkeys(left_out, 1) | depths)
    parts = list(begins_with)
    for each in listed:
        if each.update.id in depths:
            parts.append(Part(Section.USED, each.update.id, each.depth, given_at[each.depth - 1]))
        if each.update.id in left_out:
            parts.append(Part(Section.LEFT_OUT, each.update.id, 1, given))
    shown, cursor = read_page(session, parts, direction=Direction.DOWN, place=place, limit=question.limit)
    traced = _adapters(session, made)
    return Trace(adapters=traced, updates=listed, rows=shown, next_cursor=cursor, is_complete=is_complete)


def _walk(first: set[UUID], onward: Callable[[set[UUID]], set[UUID]], *, depth: int) -> tuple[dict[UUID, int], bool]:
    """Level by level: how deep each id lies, 1 for the first; and whether nothing lies deeper than `depth`."""
    depths: dict[UUID, int] = {}
    level = first
    for number in range(1, depth + 1):
        depths |= dict.fromkeys(level, number)
        level = onward(level) - depths.keys() if level else level
    return depths, not level


def _updates(session: Session, question: Question, depths: Mapping[UUID, int]) -> list[TracedUpdate]:
    found = rows.updates_by_id(session, tenant_id=question.tenant_id, update_ids=depths)
    counts = rows.count_rows(session, update_ids=[each.id for each in found])
    traced = [TracedUpdate(depth=depths[each.id], update=each, counts=counts[each.id]) for each in found]
    return sorted(traced, key=lambda each: (each.depth, each.update.created_at, each.update.id))


def _adapters(session: Session, depths: Mapping[Adapter, int]) -> list[TracedAdapter]:
    ids = [adapter.id for adapter in depths]
    images_of, moves = rows.count_images(session, adapter_ids=ids), rows.moves_of(session, adapter_ids=ids)
    traced = [
        TracedAdapter(
            depth=depth,
            adapter=adapter,
            images=images_of.get(adapter.id, 0),
            moves=[move for move in moves if move.adapter_id == adapter.id],
        )
        for adapter, depth in depths.items()
    ]
    return sorted(traced, key=lambda each: (each.depth, each.adapter.created_at, each.adapter.id))
