"""What is around every request: its id, its measure, the limits of its body, and an answer whatever happens."""

import re
import threading
import time
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body import Bodies, Body
from api.metric import HttpMetrics
from api.problem import of_error, of_status, of_surprise
from core.domain.errors import Unavailable
from core.infra.full_disk import is_full

_log = structlog.get_logger()
_SLOW_SECONDS = 1.0
_NO_SPACE = "This server's disk is full. Send this again later."
_GIVEN_ID = re.compile(rb"[\w.-]{1,64}")


class Frame:
    """ASGI middleware. A request may bring its own `X-Request-ID`; the answer and every log line carry it.

    Once `ending` is set, each answer is the last of its connection.
    """

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, bodies: Bodies, ending: threading.Event) -> None:
        self._app = app
        self._metrics = metrics
        self._bodies = bodies
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _GIVEN_ID.fullmatch(given) else uuid4().hex
        exchange = _Exchange(send, request_id, self._ending)
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
        if length.isdigit() and int(length) > self._bodies.max_bytes:
            await of_status(413, self._bodies.too_large)(scope, receive, exchange.send)
            return
        body = Body(receive, scope, self._bodies, is_answered=lambda: exchange.status > 0)
        try:
            await self._app(scope, body.receive, exchange.send)
        except Exception as error:  # the caller gets an answer, the log the reason
            no_space = is_full(error)
            event = "disk_full" if no_space else "request_failed_unexpectedly"
            _log.exception(event, method=scope["method"], route=_route_of(scope))
            if exchange.status:
                raise
            answer = of_error(Unavailable(_NO_SPACE)) if no_space else of_surprise()
            await answer(scope, receive, exchange.send)
        finally:
            body.give_back()


def _route_of(scope: Scope) -> str:
    """What was asked for, without what the path itself holds: signatures and the names of users."""
    return str(getattr(scope.get("route"), "path", "unknown"))


class _Exchange:
    """The answer on its way: adds the request's id, and remembers the status; 0 before it began."""

    def __init__(self, send: Send, request_id: str, ending: threading.Event) -> None:
        self._send = send
        self._header = (b"x-request-id", request_id.encode())
        self._ending = ending
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # Who would go on with this connection would lose a request with it.
            last = [(b"connection", b"close")] if self._ending.is_set() else []
            message["headers"] = [*message.get("headers", []), self._header, *last]
        await self._send(message)
