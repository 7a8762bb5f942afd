"""The relay does to connections what it is told, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from chaos.cut import after, at, within_upload
from chaos.relay import NONE, Relay, Trouble
from tests.loop_bench import wait_until


class Echo:
    """A server that says back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while True:
                try:
                    piece = connection.recv(4096)
                    self.heard += piece
                    connection.sendall(piece)
                except OSError:
                    return
                if not piece:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    with suppress(OSError):  # a test has closed it
        server.close()


@pytest.fixture
def relay(echo: Echo) -> Iterator[Relay]:
    with Relay("echo", echo.port) as relay:
        yield relay


def connect(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=5)


def ask(connection: socket.socket, words: bytes) -> bytes:
    """What comes back; nothing where the connection was cut."""
    try:
        connection.sendall(words)
        return connection.recv(4096)
    except ConnectionError:
        return b""


def test_without_trouble_everything_passes(relay: Relay) -> None:
    with connect(relay) as one, connect(relay) as other:
        assert (ask(one, b"one"), ask(other, b"other"), ask(one, b"again")) == (b"one", b"other", b"again")


def test_refusing_ends_what_is_there_and_what_comes(relay: Relay) -> None:
    with connect(relay) as before:
        assert ask(before, b"hello") == b"hello"
        relay.suffer(Trouble(refuses=True))
        assert ask(before, b"hello?") == b""
    with connect(relay) as later:
        assert ask(later, b"hello?") == b""
    relay.suffer(NONE)
    with connect(relay) as afterwards:
        assert ask(afterwards, b"hello") == b"hello"


def test_silence_passes_nothing_on_until_it_ends(relay: Relay, echo: Echo) -> None:
    relay.suffer(Trouble(is_silent=True))
    with connect(relay) as connection:
        connection.settimeout(0.2)
        connection.sendall(b"hello")
        with pytest.raises(TimeoutError):
            connection.recv(10)
        assert echo.heard == b""
        relay.suffer(NONE)
        connection.settimeout(5)
        assert connection.recv(10) == b"hello"


def test_an_answer_is_said_in_place_of_the_servers(relay: Relay, echo: Echo) -> None:
    relay.suffer(Trouble(answer=b"no"))
    with connect(relay) as connection:
        assert ask(connection, b"hello") == b"no"
    assert echo.heard == b""


def test_a_cut_at_a_word_comes_once_and_after_the_server_heard_it(relay: Relay, echo: Echo) -> None:
    cut = at(b"COMMIT")
    relay.arm(cut)
    with connect(relay) as connection:
        assert ask(connection, b"INSERT") == b"INSERT"
        assert relay.awaits(cut)
        assert ask(connection, b"COMMIT") == b""
    assert not relay.awaits(cut)
    with connect(relay) as connection:
        assert ask(connection, b"COMMIT") == b"COMMIT"
    assert echo.heard == b"INSERTCOMMITCOMMIT"


def test_a_cut_after_some_bytes_lets_no_more_of_them_pass_and_counts_from_its_arming(relay: Relay, echo: Echo) -> None:
    with connect(relay) as connection:
        assert ask(connection, b"0" * 100) == b"0" * 100
        relay.arm(after(8))
        assert ask(connection, b"12345") == b"12345"
        assert ask(connection, b"67890") == b""
    wait_until(lambda: echo.heard == b"0" * 100 + b"12345678")


@pytest.mark.parametrize("is_at_once", [True, False])
@pytest.mark.parametrize(
    "headers", [[b"Host: s3", b"Content-Length: 3000"], [b"content-length: 3000", b"Expect: 100-continue"]]
)
@pytest.mark.parametrize(("share", "heard"), [(0.0, 1), (0.5, 1500), (0.9999, 2999)])
def test_an_upload_is_cut_within_its_body(
    relay: Relay, echo: Echo, headers: list[bytes], share: float, heard: int, *, is_at_once: bool
) -> None:
    head = b"PUT /bucket/key HTTP/1.1\r\n" + b"\r\n".join(headers) + b"\r\n\r\n"
    body = b"x" * 3000
    relay.arm(within_upload(share))
    with connect(relay) as connection:
        if is_at_once:
            assert len(ask(connection, head + body)) < len(head + body)
        else:
            assert ask(connection, head) == head
            ask(connection, body)
    wait_until(lambda: len(echo.heard) >= len(head) + heard)
    assert echo.heard == head + body[:heard]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /bucket/key HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"HEAD /bucket/key HTTP/1.1\r\nHost: s3\r\n\r\n",
        b"PUT /bucket HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_upload_is_not_cut(relay: Relay, echo: Echo, request_: bytes) -> None:
    cut = within_upload(0.0)
    relay.arm(cut)
    with connect(relay) as connection:
        assert ask(connection, request_)
        wait_until(lambda: echo.heard == request_)
    assert relay.awaits(cut)


def test_a_cut_that_is_lifted_was_met_by_nobody(relay: Relay) -> None:
    cut = at(b"COMMIT")
    relay.arm(cut)
    assert relay.lift(cut)
    assert not relay.lift(cut)
    with connect(relay) as connection:
        assert ask(connection, b"COMMIT") == b"COMMIT"


def test_without_its_server_a_client_is_turned_away(relay: Relay, echo: Echo) -> None:
    echo.close()
    with connect(relay) as connection:
        assert ask(connection, b"hello") == b""


@pytest.mark.parametrize(
    "trouble",
    [Trouble(refuses=True), Trouble(is_silent=True), Trouble(answer=b"no"), Trouble(delay_seconds=0.01)],
    ids=lambda trouble: str(trouble),
)
def test_it_tells_that_somebody_met_the_trouble(relay: Relay, trouble: Trouble) -> None:
    with connect(relay) as connection:
        assert ask(connection, b"hello") == b"hello"
        assert not relay.was_met
        relay.suffer(trouble)
        with suppress(ConnectionError):
            connection.sendall(b"words")
        wait_until(lambda: relay.was_met)
        relay.suffer(NONE)


def test_it_tells_that_somebody_was_turned_away(relay: Relay) -> None:
    relay.suffer(Trouble(refuses=True))
    with connect(relay):
        wait_until(lambda: relay.was_met)


def test_a_trouble_that_came_and_went_alone_was_met_by_nobody(relay: Relay) -> None:
    with connect(relay) as connection:
        relay.suffer(Trouble(is_silent=True))
        relay.suffer(NONE)
        assert ask(connection, b"hello") == b"hello"
    assert not relay.was_met
