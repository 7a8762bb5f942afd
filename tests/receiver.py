"""A receiver of webhooks on loopback: a real HTTP server that remembers what it was sent, and answers as it is told."""

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behave = Callable[["_Handler"], None]


@dataclass(frozen=True)
class Received:
    """One request. `server_name` is what TLS asked for, None without."""

    path: str
    headers: dict[str, str]
    body: bytes
    server_name: str | None = None


def status(code: int, **headers: str) -> Behave:
    """Answer with a status and a few words."""

    def behave(handler: "_Handler") -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    return behave


def hang(handler: "_Handler") -> None:
    """Answer nothing, until the receiver ends."""
    handler.receiver.ended.wait()


def drip(handler: "_Handler") -> None:
    """Answer a header a byte at a time, without end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not handler.receiver.ended.wait(0.02):
        handler.wfile.write(b"x")


def endless(handler: "_Handler") -> None:
    """Answer with a body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.receiver.ended.is_set():
        handler.wfile.write(b"x" * 1000)


def nonsense(handler: "_Handler") -> None:
    """Answer something that is no HTTP."""
    handler.wfile.write(b"220 smtp.example.com ESMTP\r\n")


def hang_up(_: "_Handler") -> None:
    """Answer nothing and close."""


class Receiver:
    """Answers each request by the next of `behaviours`, and from then on by the last."""

    def __init__(self, behaviours: Sequence[Behave], *, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.behaviours = list(behaviours)
        self.received: list[Received] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(self, (host, port))
        self._names: dict[Any, str | None] = {}
        if tls is not None:
            tls.sni_callback = self._note_name
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def note(self, handler: "_Handler") -> Behave:
        """Remember a request; how to answer it."""
        length = int(handler.headers["Content-Length"])
        name = self._names.get(handler.connection)
        request = Received(handler.path, dict(handler.headers.items()), handler.rfile.read(length), name)
        with self._lock:
            self.received.append(request)
            return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]

    def _note_name(self, connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        self._names[connection] = name


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: Receiver, address: tuple[str, int]) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    @property
    def receiver(self) -> Receiver:
        return self.server.receiver

    def do_POST(self) -> None:
        self.receiver.note(self)(self)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@contextmanager
def receiving(
    *behaviours: Behave, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver, for as long as the block runs; it answers 200 unless told otherwise."""
    receiver = Receiver(behaviours or [status(200)], host=host, port=port, tls=tls)
    thread = threading.Thread(target=receiver.serve, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.close()
        thread.join()
