"""What keeps Lorikeet from starting, said in one sentence with the way out."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Refusal(Exception):
    """The command cannot go on; the message is all that its user sees."""


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Turn the file system's own errors about `place` into a sentence.

    Raises:
        Refusal: no space, no permission, or a read-only disk.
    """
    try:
        yield
    except OSError as error:
        name = error.filename or place
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refusal(f"The disk is full: {name} could not be written. Free some space and start again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Refusal(
                f"No permission for {name}. Start as the user who owns {place}, "
                "or give a folder of your own: DATA_DIR=/path/to/folder."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise Refusal(f"{name} is not a folder. Give one that is, or that can be made: DATA_DIR=…") from error
        raise
