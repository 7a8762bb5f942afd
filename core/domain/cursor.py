"""Where a page of a list ended, as opaque text."""

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

from core.domain.errors import InvalidInput


def make_cursor(created_at: datetime, row_id: UUID) -> str:
    """The cursor of the page that ended with this row."""
    return base64.urlsafe_b64encode(json.dumps([created_at.isoformat(), str(row_id)]).encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Where the last page ended.

    Raises:
        InvalidInput: not made by `make_cursor`.
    """
    try:
        created_at, row_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return datetime.fromisoformat(created_at).astimezone(UTC), UUID(row_id)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidInput.of("cursor", "must be the next_cursor of an earlier page") from error
