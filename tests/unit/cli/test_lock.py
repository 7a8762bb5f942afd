import os
from pathlib import Path

import pytest

from cli.lock import held
from cli.refusal import Refusal


def test_a_second_launcher_is_told_who_runs(tmp_path: Path) -> None:
    with held(tmp_path, port=5000):
        told = f"already running.*pid {os.getpid()} on port 5000"
        with pytest.raises(Refusal, match=told), held(tmp_path, port=5001):
            pass


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path, port=5000):
            pass
