"""Locks on files, which the system gives back when a process ends, however it ends."""

import fcntl
from typing import TextIO


def took(file: TextIO, kind: int) -> bool:
    """Whether a file's lock of that kind, `LOCK_SH` or `LOCK_EX`, was to be had; it is held until the file closes."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
