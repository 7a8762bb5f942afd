"""Waiting for what is to come, and giving it up."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_GLANCE_SECONDS = 0.05


class Missed(Exception):
    """Nobody came by to whom it could have happened."""


def came(is_there: Callable[[], object], *, within: float) -> bool:
    """Look until it is there, for so many seconds at most; whether it came."""
    deadline = time.monotonic() + within
    while not is_there():
        if time.monotonic() > deadline:
            return False
        time.sleep(_GLANCE_SECONDS)
    return True


@contextmanager
def set_on_error(given_up: threading.Event) -> Iterator[None]:
    """Tell those who wait elsewhere that the block ended by an error, or because somebody asked for its end."""
    try:
        yield
    except BaseException:
        given_up.set()
        raise
