"""Headers with a meaning."""

from datetime import timedelta
from uuid import uuid4

import pytest

from api.header import read_terms, wait_seconds
from core.domain.errors import InvalidInput
from core.domain.generation import GenerationSpec
from core.services.terms import Terms

SPEC = GenerationSpec(prompt="a star")


def terms(*, key: str | None = None, cancel_after: str | None = None, spec: GenerationSpec = SPEC) -> Terms:
    return read_terms(uuid4(), spec, idempotency_key=key, cancel_after=cancel_after)


def test_equal_requests_have_equal_digests() -> None:
    first, second = terms(key="k").idempotency, terms(key="k", spec=GenerationSpec(prompt="a star", num_images=1))
    other = terms(key="k", spec=GenerationSpec(prompt="a heart")).idempotency
    assert first == second.idempotency
    assert first is not None
    assert other is not None
    assert first.request_sha256 != other.request_sha256
    assert terms().idempotency is None


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\nb"])
def test_a_strange_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        terms(key=key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("1m", timedelta(minutes=1)),
        ("2h", timedelta(hours=2)),
        (" 30d ", timedelta(days=30)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert terms(cancel_after=text).cancel_after == expected


@pytest.mark.parametrize("text", ["", "0s", "31d", "-1s", "1", "1.5h", "1w", "999999999d", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Cancel-After"):
        terms(cancel_after=text)


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        (None, 0),
        ("", 0),
        ("wait=5", 5),
        ("respond-async, wait=10", 10),
        ('wait = "7"; x', 7),
        ("wait=999", 60),
        ("wait=soon", 0),
        ("wait=-1", 0),
        ("await=5", 0),
    ],
)
def test_preferences(prefer: str | None, expected: int) -> None:
    assert wait_seconds(prefer) == expected
