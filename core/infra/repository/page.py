"""One page of a list, newest first."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from core.domain.cursor import make_cursor, read_cursor
from core.infra.table import Base

Row = TypeVar("Row", bound=Base)


def newest_first(
    session: Session, query: Select[Row], table: Any, *, limit: int, cursor: str | None
) -> tuple[Sequence[Row], str | None]:
    """Rows of `table`, which has `created_at` and `id`: those after `cursor`, and the next cursor, None at the end.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    if cursor is not None:
        query = query.where(tuple_(table.created_at, table.id) < read_cursor(cursor))
    found = session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)).all()
    shown = found[:limit]
    last: Any = shown[-1] if len(found) > limit else None
    return shown, make_cursor(last.created_at, last.id) if last else None
