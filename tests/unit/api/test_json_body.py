"""Strict JSON."""

import pytest

from api.json_body import is_json, parse
from core.domain.errors import InvalidInput


def test_ordinary_json_is_read() -> None:
    assert parse(b'{"a": [1, 2.5, "\xc3\xa4", null, true, {"b": {}}]}') == {"a": [1, 2.5, "ä", None, True, {"b": {}}]}


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b"", "body", "not JSON"),
        (b'{"a": }', "body", "column 7"),
        (b"{'a': 1}", "body", "not JSON"),
        (b"\xff\xfe", "body", "UTF-8"),
        (b'{"a": NaN}', "body", "NaN"),
        (b'{"a": -Infinity}', "body", "-Infinity"),
        (b'{"a": 1, "a": 1}', "a", "twice"),
        (b'{"x": {"b": 1, "c": 2, "b": 3}}', "b", "twice"),
        (b"[" * 10_000, "body", "deep"),
        (b'{"a":' * 10_000, "body", "deep"),
        (b"1" * 5000, "body", "digits"),
        (b"1 2", "body", "Extra data"),
        (b"[" + b"{}," * 500_000 + b"{}]", "body", "more than 500000 values"),
        (b"{" + b",".join(b'"%d": 0' % number for number in range(1001)) + b"}", "body", "more than 1000 fields"),
    ],
)
def test_what_readers_disagree_about_is_refused(body: bytes, field: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as raised:
        parse(body)
    assert raised.value.problems[0].field == field


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/json", False),
        ("application/x-www-form-urlencoded", False),
        ("", False),
    ],
)
def test_content_types_of_json(header: str, expected: bool) -> None:
    assert is_json(header) is expected
