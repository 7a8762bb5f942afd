"""Cursors of lists."""

import base64
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from core.domain.cursor import make_cursor, read_cursor
from core.domain.errors import InvalidInput


def test_a_cursor_comes_back_as_it_went() -> None:
    row = datetime.now(UTC), uuid4()
    assert read_cursor(make_cursor(*row)) == row


@pytest.mark.parametrize(
    "content", ["", "x", "[]", "[1, 2]", '["2026-01-01", 5]', '["0001-01-01T00:00:00+14:00", "x"]', "[" * 9999, "{}"]
)
def test_what_we_did_not_make_is_refused(content: str) -> None:
    with pytest.raises(InvalidInput):
        read_cursor(base64.urlsafe_b64encode(content.encode()).decode())
    with pytest.raises(InvalidInput):
        read_cursor(content + "§")
