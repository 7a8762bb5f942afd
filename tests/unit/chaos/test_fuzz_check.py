"""What no answer may show."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.fuzz_check import shows_no_stack
from cli.environment import ROOT

LEAKS = [
    "Traceback (most recent call last):",
    'File "/srv/a.py", line 7, in b',
    '{"detail": "File \\"/srv/a.py\\", line 7, in b"}',
    "starlette.routing",
    "pydantic_core._pydantic_core.ValidationError",
    "redis.exceptions.ConnectionError",
    "kombu.exceptions.OperationalError",
    f"{ROOT}/api/main.py",
    "/data/of/the/run/objects/x",
]
FINE = [
    json.dumps({"source": f"{ROOT}/tiny/lorikeet-tiny"}),
    "source: must be a folder beneath /data/of/the/run/models: put the model there",
    '{"detail": "Redis is away."}',
    '{"errors": [{"field": "file", "message": "is no file, line 7"}]}',
]


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", "/data/of/the/run")


def check(answer: str) -> None:
    nothing = cast(Any, None)
    shows_no_stack(nothing, cast(Any, SimpleNamespace(content=answer.encode())), nothing)


@pytest.mark.parametrize("answer", LEAKS)
def test_our_inside_is_noticed(answer: str) -> None:
    with pytest.raises(AssertionError, match="holds"):
        check(f"words {answer} words")


@pytest.mark.parametrize("answer", FINE)
def test_words_that_anybody_may_read_are_not(answer: str) -> None:
    check(answer)
