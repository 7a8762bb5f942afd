"""What is around every request: its id, its measure, its greatest size, and an answer whatever happens."""

import re
import time
from functools import partial
from uuid import uuid4

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metric import HttpMetrics
from api.problem import of_error, of_status, of_surprise
from core.domain.errors import Unavailable
from core.infra.full_disk import is_full

_log = structlog.get_logger()
_SLOW_SECONDS = 1.0
_OWN_BYTES = 2**20
_NO_SPACE = "This server's disk is full. Send this again later."
_GIVEN_ID = re.compile(rb"[\w.-]{1,64}")


class Frame:
    """ASGI middleware. A request may bring its own `X-Request-ID`; the answer and every log line carry it."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, max_body_bytes: int, max_bodies_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._left_bytes = max_bodies_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _GIVEN_ID.fullmatch(given) else uuid4().hex
        exchange = _Exchange(send, request_id)
        started = time.perf_counter()
        tokens = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._handle(scope, receive, exchange, headers)
        finally:
            route = _route_of(scope)
            seconds = time.perf_counter() - started
            self._metrics.observe(scope["method"], route, exchange.status, seconds)
            if exchange.status >= 400 or seconds > _SLOW_SECONDS:  # all others are counted, which costs less
                milliseconds = round(seconds * 1000, 1)
                _log.info("answered", method=scope["method"], route=route, status=exchange.status, ms=milliseconds)
            structlog.contextvars.reset_contextvars(**tokens)

    async def _handle(self, scope: Scope, receive: Receive, exchange: "_Exchange", headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            await of_status(413, self._too_large)(scope, receive, exchange.send)
            return
        body = _Body(receive)
        try:
            await self._app(scope, partial(self._receive, body), exchange.send)
        except Exception as error:  # the caller gets an answer, the log the reason
            no_space = is_full(error)
            event = "disk_full" if no_space else "request_failed_unexpectedly"
            _log.exception(event, method=scope["method"], route=_route_of(scope))
            if exchange.status:
                raise
            answer = of_error(Unavailable(_NO_SPACE)) if no_space else of_surprise()
            await answer(scope, receive, exchange.send)
        finally:
            self._left_bytes += body.shared_bytes

    async def _receive(self, body: "_Body") -> Message:
        """More of a body, as long as there is room for it and for those of all others."""
        message, more = await body.receive()
        self._left_bytes -= more
        if body.total_bytes > self._max_body_bytes:
            raise HTTPException(413, self._too_large)
        if more and self._left_bytes < 0:
            raise Unavailable("Too many large bodies are being read. Send this one again later.")
        return message

    @property
    def _too_large(self) -> str:
        return f"A body may have at most {self._max_body_bytes} bytes."


def _route_of(scope: Scope) -> str:
    """What was asked for, without what the path itself holds: signatures and the names of users."""
    return str(getattr(scope.get("route"), "path", "unknown"))


class _Body:
    """What was received of a body. All but its first mebibyte is room that it shares with others."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.total_bytes = 0

    @property
    def shared_bytes(self) -> int:
        return max(0, self.total_bytes - _OWN_BYTES)

    async def receive(self) -> tuple[Message, int]:
        """The next of it, and by how much it takes more of the room that is shared."""
        message, before = await self._receive(), self.shared_bytes
        self.total_bytes += len(message.get("body", b""))
        return message, self.shared_bytes - before


class _Exchange:
    """The answer on its way: adds the request's id, and remembers the status; 0 before it began."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._header = (b"x-request-id", request_id.encode())
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), self._header]
        await self._send(message)
