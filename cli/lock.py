"""The lock on a data folder: one launcher at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.refusal import Refusal


@contextmanager
def held(data: Path, *, port: int) -> Iterator[None]:
    """Hold `data` for as long as the block runs. The system gives the lock back when we die, however we die.

    Raises:
        Refusal: another launcher holds it.
    """
    with (data / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Refusal(
                f"Lorikeet is already running over {data}: {holder}. Stop it with Ctrl-C there, or start a second one "
                "with a folder and a port of its own: DATA_DIR=… PORT=…"
            ) from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on port {port}")
        file.flush()
        yield
