"""What is around every request: its id, its measure, its greatest size, and an answer whatever happens."""

import re
import time
from uuid import uuid4

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metric import HttpMetrics
from api.problem import of_status, of_surprise

_log = structlog.get_logger()
_SLOW_SECONDS = 1.0
_GIVEN_ID = re.compile(rb"[\w.-]{1,64}")


class Frame:
    """ASGI middleware. A request may bring its own `X-Request-ID`; the answer and every log line carry it."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

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
        try:
            await self._app(scope, self._counted(receive), exchange.send)
        except Exception:  # the caller gets an answer, the log the reason
            _log.exception("request_failed_unexpectedly", method=scope["method"], route=_route_of(scope))
            if exchange.status:
                raise
            await of_surprise()(scope, receive, exchange.send)

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._max_body_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return counted

    @property
    def _too_large(self) -> str:
        return f"A body may have at most {self._max_body_bytes} bytes."


def _route_of(scope: Scope) -> str:
    """What was asked for, without what the path itself holds: signatures and the names of users."""
    return str(getattr(scope.get("route"), "path", "unknown"))


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
