"""The relay does to connections what it is told, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from chaos.relay import NONE, Relay, Trouble


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
                except OSError:
                    return
                if not piece:
                    return
                self.heard += piece
                connection.sendall(piece)

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
    relay.cut_at(b"COMMIT")
    with connect(relay) as connection:
        assert ask(connection, b"INSERT") == b"INSERT"
        assert ask(connection, b"COMMIT") == b""
    with connect(relay) as connection:
        assert ask(connection, b"COMMIT") == b"COMMIT"
    assert echo.heard == b"INSERTCOMMITCOMMIT"


def test_a_cut_after_some_bytes(relay: Relay) -> None:
    relay.cut_after(10)
    with connect(relay) as connection:
        assert ask(connection, b"12345") == b"12345"
        assert ask(connection, b"67890") == b""


def test_without_its_server_a_client_is_turned_away(relay: Relay, echo: Echo) -> None:
    echo.close()
    with connect(relay) as connection:
        assert ask(connection, b"hello") == b""
