"""What schemathesis loads: files that are worth sending, and a check that no answer shows anything of our inside."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response

from cli.environment import ROOT

_STACK = (
    rb"Traceback \(most recent call last\)",
    rb'File \\?"[^"]+", line \d+',
    b"site-packages",
    *(b"sqlalchemy", b"psycopg", b"botocore", b"starlette", b"pydantic_core"),
    *(rb"redis\.exceptions", b"celery", b"kombu"),
)


@schemathesis.hook
def after_load_schema(context: HookContext, schema: Any) -> None:  # noqa: ARG001  # its signature
    """Where a file is asked for, send one of the right kind now and then."""
    samples = [path.read_bytes() for path in sorted((_data() / "sample").iterdir())]
    schemathesis.openapi.format("binary", st.one_of(st.binary(), st.sampled_from(samples)))


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """What the document cannot say: feedback without a token is somebody's."""
    is_feedback = context.operation is not None and context.operation.label == "POST /api/feedback"
    return {"user_ref": "ann"} | body if is_feedback and _lacks_token(body) else body


def _lacks_token(body: Any) -> bool:
    return isinstance(body, dict) and "feedback_token" not in body


@schemathesis.check
def shows_no_stack(ctx: CheckContext, response: Response, case: Case[Any]) -> None:  # noqa: ARG001  # its signature
    """No stack trace, no folder of ours, no name of a library that only a stack trace would show."""
    found = _inside().findall(response.content)
    assert not found, f"the answer holds {found}"


@cache
def _inside() -> re.Pattern[bytes]:
    source, data = (re.escape(str(folder).encode()) for folder in (ROOT, _data()))
    # Where base models lie is told on purpose, to those who may add some.
    return re.compile(b"|".join([*_STACK, source + rb"[\w/.-]*\.py\b", data + rb"(?!/models\b)"]))


def _data() -> Path:
    return Path(os.environ["DATA_DIR"])
