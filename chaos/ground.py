"""Where a run takes place, and how it is ended before its time."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.interruption import stoppable


@contextmanager
def ground(kept: Path | None = None) -> Iterator[Path]:
    """A folder to work in: a temporary one, unless one is given to be kept.

    Ctrl-C and SIGTERM leave the block as an error does, so that nothing is left running, and end the program.
    """
    is_whole = False
    with stoppable(), tempfile.TemporaryDirectory(prefix="lorikeet-chaos-") as temporary:
        yield kept or Path(temporary)
        is_whole = True
    if not is_whole:
        raise SystemExit("Stopped.")
