"""JSON bodies, read once it is known who sends them, and more strictly than the standard library does.

No duplicate keys, no NaN, no endless depth, and no more of anything than a request can need.
"""

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar

from fastapi import Request
from fastapi.params import Form, Security
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive
from starlette.types import Scope as StarletteScope

from api.dependency import check_in, get_runtime
from core.domain.api_key import Scope
from core.domain.errors import InvalidInput
from core.domain.json_object import OccursTwice, unique
from core.infra.settings import Settings

_SLOW_BYTES = 2**18
_STRANGER_BYTES = 2**16
"""Of who shows no key, where a token in the body may stand in its place: the longest word of a user fits in."""

_MAX_VALUES = 500_000
"""In memory a value takes up to a hundred times what it takes in a body."""

_MAX_FIELDS = 1000
"""Of an object; each that does not exist is an error of its own."""


def parse(body: bytes) -> Any:
    """The value of a JSON document.

    Raises:
        InvalidInput: it is none, or has a form that readers disagree about; the field is `body`.
    """
    if body.count(b",") >= _MAX_VALUES:
        raise InvalidInput.of("body", f"holds more than {_MAX_VALUES} values")
    try:
        return json.loads(body.decode(), object_pairs_hook=_bounded, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidInput.of("body", "is nested too deeply") from None
    except OccursTwice as error:
        raise InvalidInput.of(error.name[:100], "occurs twice") from None
    except json.JSONDecodeError as error:
        raise InvalidInput.of(
            "body", f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeDecodeError:
        raise InvalidInput.of("body", "is not UTF-8") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise InvalidInput.of("body", f"holds a number of more than {sys.get_int_max_str_digits()} digits") from None


def _bounded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = unique(pairs)
    if len(value) > _MAX_FIELDS:
        raise InvalidInput.of("body", f"holds an object of more than {_MAX_FIELDS} fields")
    return value


def _refuse_constant(name: str) -> float:
    raise InvalidInput.of("body", f"holds {name}, which is not JSON")


class StrictRequest(Request):
    """A request whose JSON is read by `parse`, up to `max_bytes`."""

    def __init__(self, scope: StarletteScope, receive: Receive, *, max_bytes: int) -> None:
        super().__init__(scope, receive)
        self._max_bytes = max_bytes

    async def json(self) -> Any:
        """Read and parse the body.

        Raises:
            InvalidInput: see `parse`.
            HTTPException: 413, it is too large.
        """
        if not hasattr(self, "_json"):
            body = await self._limited_body()
            self._json = parse(body) if len(body) < _SLOW_BYTES else await run_in_threadpool(parse, body)
        return self._json

    async def body(self) -> bytes:
        """Read the body.

        Raises:
            HTTPException: 413, it is too large.
        """
        return await self._limited_body()

    async def _limited_body(self) -> bytes:
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > self._max_bytes:
                    raise HTTPException(413, f"This JSON body may have at most {self._max_bytes} bytes.")
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body


def is_json(content_type: str) -> bool:
    """Whether a Content-Type header announces JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


class StrictRoute(APIRoute):
    """A route whose JSON body is read strictly, and that refuses other content types.

    FastAPI reads a body before it asks whose it is; here the key is checked first, with the scope that the route needs.
    """

    scopes_of_a_key: ClassVar[Sequence[Scope]] = ()
    """What a key must be for, where a route that names no scope is shown one."""

    def max_bytes(self, settings: Settings) -> int:
        """Of its JSON body."""
        return settings.max_json_bytes

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None and not isinstance(self.body_field.field_info, Form)
        may_be_left_out = self.body_field is not None and not self.body_field.field_info.is_required()
        scopes = [Scope(name) for each in self.dependencies if isinstance(each, Security) for name in each.scopes or ()]

        async def handle_strictly(request: Request) -> Response:
            runtime = await get_runtime(request)
            max_bytes = self.max_bytes(runtime.settings)
            if takes_json:
                if not await check_in(request, runtime, scopes or self.scopes_of_a_key, may_lack=not scopes):
                    max_bytes = min(max_bytes, _STRANGER_BYTES)
                content_type = request.headers.get("content-type")
                is_left_out = may_be_left_out and content_type is None
                if not is_left_out and not is_json(content_type or ""):
                    raise HTTPException(415, "Send a JSON body with Content-Type: application/json.")
            return await handle(StrictRequest(request.scope, request.receive, max_bytes=max_bytes))

        return handle_strictly


class OpinionRoute(StrictRoute):
    """A route whose body may hold a feedback token in place of a key."""

    scopes_of_a_key = (Scope.FEEDBACK,)


class PictureRoute(StrictRoute):
    """A route whose JSON body may hold a picture."""

    def max_bytes(self, settings: Settings) -> int:
        return settings.max_picture_json_bytes
