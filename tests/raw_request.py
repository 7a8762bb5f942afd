"""A request as a server hands it to the application, of which a part never arrives."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.types import Message

from tests.api_bench import Tenancy


@dataclass
class RawRequest:
    """What is sent; `received` counts how often the application asked for more of it.

    After `chunks` the client goes away, unless they are all there is.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Sequence[bytes] = ()
    received: int = 0
    answer: list[Message] = field(default_factory=list)

    def send(self, tenant: Tenancy) -> int:
        """The status of the answer."""
        self.begin(tenant).result()
        status: int = self.answer[0]["status"]
        return status

    def begin(self, tenant: Tenancy) -> Future[Any]:
        """The request under way."""
        portal = tenant.http.portal
        assert portal is not None
        return portal.start_task_soon(tenant.http.app, self._scope, self._receive, self._send)

    @property
    def body(self) -> bytes:
        """Of the answer."""
        return b"".join(message.get("body", b"") for message in self.answer)

    @property
    def _scope(self) -> dict[str, Any]:
        url = urlsplit(self.url)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(url.path),
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self.headers.items()],
            "server": ("testserver", 80),
            "client": ("testclient", 50000),
        }

    async def _receive(self) -> Message:
        self.received += 1
        if self.received > len(self.chunks):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.chunks[self.received - 1], "more_body": True}

    async def _send(self, message: Message) -> None:
        self.answer.append(message)


@dataclass
class SlowRequest(RawRequest):
    """A request whose client sends nothing more for as long as it pleases."""

    is_read: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    async def _receive(self) -> Message:
        if self.received == len(self.chunks):
            self.is_read.set()
            await asyncio.to_thread(self.may_end.wait, 30)
        return await super()._receive()
