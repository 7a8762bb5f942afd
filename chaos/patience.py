"""Waiting for what is to come."""

import time
from collections.abc import Callable

_GLANCE_SECONDS = 0.05


def came(is_there: Callable[[], object], *, within: float) -> bool:
    """Look until it is there, for so many seconds at most; whether it came."""
    deadline = time.monotonic() + within
    while not is_there():
        if time.monotonic() > deadline:
            return False
        time.sleep(_GLANCE_SECONDS)
    return True
