"""A check that schemathesis makes of every answer: it shows nothing of our inside."""

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

_INSIDE = (b"Traceback (most recent call last)", b"site-packages", b"sqlalchemy", b"psycopg", b"botocore")


@schemathesis.check
def shows_no_stack(ctx: CheckContext, response: Response, case: Case[Any]) -> None:  # noqa: ARG001  # its signature
    """No stack trace, no name of a library that only a stack trace would show."""
    found = [word for word in _INSIDE if word in response.content]
    assert not found, f"the answer holds {found}"
