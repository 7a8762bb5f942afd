"""Where a connection is to be lost: after some bytes of what its client sends, within an upload, or at a word."""

import re
from asyncio import StreamWriter
from collections.abc import Callable

_PUT = re.compile(rb"PUT .*?\r\nContent-Length: *(\d+)(?=\r\n).*?\r\n\r\n", re.DOTALL | re.IGNORECASE)


class Cut:
    """Ends one connection, the first to come so far.

    `count_from` is asked about each piece of a connection, until it says how many bytes from the beginning of that
    piece on still pass.
    """

    def __init__(self, count_from: Callable[[bytes], int | None]) -> None:
        self._count_from = count_from
        self._left: dict[StreamWriter, int] = {}

    def passing(self, connection: StreamWriter, piece: bytes) -> int | None:
        """How many bytes of the piece still pass before its connection ends; None where it does not end here."""
        left = self._left.get(connection)
        if left is None:
            left = self._count_from(piece)
        if left is None or left <= len(piece):
            return left
        self._left[connection] = left - len(piece)
        return None


def after(count: int) -> Cut:
    """After so many bytes, of whoever sends them first from now on."""
    return Cut(lambda _: count)


def at(word: bytes) -> Cut:
    """Behind the piece with the word: the server hears it, the client no answer."""
    return Cut(lambda piece: len(piece) if word in piece else None)


def within_upload(share: float) -> Cut:
    """After that share of a PUT's body, which is below 1.0: a byte of it passes at least, and one at least does not."""

    def count_from(piece: bytes) -> int | None:
        head = _PUT.match(piece)
        length = int(head[1]) if head else 0
        return head.end() + 1 + int(share * (length - 1)) if head and length > 1 else None

    return Cut(count_from)
