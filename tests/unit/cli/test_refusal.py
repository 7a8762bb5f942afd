import errno
from pathlib import Path

import pytest

from cli.refusal import Refusal, explained


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "The disk is full"), (errno.EACCES, "No permission"), (errno.EROFS, "No permission")],
)
def test_the_disks_own_errors_become_a_sentence(number: int, words: str) -> None:
    with pytest.raises(Refusal, match=words), explained(Path("/data")):
        raise OSError(number, "words of the system", "/data/file")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ConnectionResetError), explained(Path("/data")):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
