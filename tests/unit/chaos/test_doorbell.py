"""Doorbells of no meaning: those that are messages, and those that are none."""

import json

import pytest

from chaos.doorbell import strange, unreadable
from core.domain.job import JobKind


@pytest.mark.parametrize("kind", JobKind)
def test_what_is_strange_is_a_whole_message(kind: JobKind) -> None:
    messages = [json.loads(message) for message in strange(kind)]
    assert len(messages) == 3
    assert all({"body", "headers", "properties"} <= message.keys() for message in messages)


@pytest.mark.parametrize("kind", JobKind)
def test_what_nobody_can_read_comes_in_every_sort(kind: JobKind) -> None:
    messages = unreadable(kind)
    assert len(messages) == len(set(messages)) == 28
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(messages[0])
