"""A network for one request: its host is looked up once, every address is checked, and it connects to none but those.

So a name that leads elsewhere at a second look has no second look, and time is up for everything together: no receiver
keeps a request longer by sending a byte now and then.
"""

import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

import httpcore2 as httpcore

from core.domain.address import Address

CONNECT_SECONDS = 5.0
Resolve = Callable[[str, int], Sequence[str]]
"""A host name and a port → the addresses that it has now, as text; OSError where it has none."""


class NotAllowed(httpcore.ConnectError):
    """The name has no address, or one that is not everybody's."""  # one word for both: who asks learns no inner names


class PinnedNetwork(httpcore.NetworkBackend):
    """Connects to one host and port, if all its addresses are allowed.

    `resolve` is asked at most once, and not at all for an address. `deadline` is of the monotonic clock.
    """

    def __init__(
        self, host: str, port: int, *, resolve: Resolve, allows: Callable[[Address], bool], deadline: float
    ) -> None:
        self._target = (host, port)
        self._resolve = resolve
        self._allows = allows
        self._deadline = deadline
        self._used = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # time is up for everything together
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first allowed address that takes it.

        Raises:
            NotAllowed: an address is not allowed, or there is none, or this is another host, or a second time.
            ConnectError, ConnectTimeout: none takes it.
        """
        if self._used or (host, port) != self._target:
            raise NotAllowed
        self._used = True
        deadline = min(self._deadline, time.monotonic() + CONNECT_SECONDS)
        failure: Exception = NotAllowed()
        for address in self._checked(host, port, deadline):
            try:
                stream = httpcore.SyncBackend().connect_tcp(
                    address, port, _left(deadline), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return TimedStream(stream, self._deadline)
        raise failure

    def _checked(self, host: str, port: int, deadline: float) -> Sequence[str]:
        """Every address of the host, in a spelling that means nothing else to anybody."""
        try:
            found = [ip_address(host)]
        except ValueError:
            found = [ip_address(each) for each in _look_up(self._resolve, host, port, deadline)]
        if not found or not all(self._allows(address) for address in found):
            raise NotAllowed
        return list(dict.fromkeys(str(address) for address in found))


class TimedStream(httpcore.NetworkStream):
    """A stream that ends at a deadline, however its partner behaves."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """What came, as soon as something did."""
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of it."""
        self._stream.write(buffer, _left(self._deadline))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """The same with TLS; the certificate has to be the host's own."""
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return TimedStream(stream, self._deadline)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def get_extra_info(self, info: str) -> object:
        """What is known of the connection."""
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout
    return seconds


def _look_up(resolve: Resolve, host: str, port: int, deadline: float) -> Sequence[str]:
    """Ask in a thread that is left alone where the answer does not come in time: a look-up cannot be broken off."""
    answers: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host, port))
        except (OSError, UnicodeError):
            answers.put([])

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        return answers.get(timeout=_left(deadline))
    except queue.Empty:
        raise httpcore.ConnectTimeout from None
