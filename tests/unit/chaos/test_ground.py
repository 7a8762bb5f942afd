"""The ground of a run: gone afterwards, however that was."""

import os
import signal
from pathlib import Path

import pytest

from chaos.ground import ground


def test_a_temporary_folder_goes_and_a_given_one_stays(tmp_path: Path) -> None:
    with ground() as folder:
        assert folder.is_dir()
    assert not folder.exists()
    with ground(tmp_path) as folder:
        assert folder == tmp_path
    assert tmp_path.is_dir()


def test_who_is_asked_to_end_tidies_up_and_says_so() -> None:
    tidied: list[bool] = []
    with pytest.raises(SystemExit, match="Stopped"), ground() as folder:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            tidied.append(folder.exists())
    assert tidied == [True]
    assert not folder.exists()


def test_an_error_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError), ground():
        raise ZeroDivisionError
