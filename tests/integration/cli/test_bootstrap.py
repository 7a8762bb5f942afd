"""The first key is kept in a file, and is shown to nobody but a person."""

import os
from pathlib import Path

import pytest

from cli.bootstrap import bootstrap
from core.infra.database import Database
from core.infra.settings import Settings


def bootstrapped(settings: Settings, key_file: Path) -> tuple[str, str]:
    """The key, and what was said."""
    said: list[str] = []
    return bootstrap(settings, key_file=key_file, say=said.append), "\n".join(said)


def test_a_log_names_the_file_of_the_key_and_not_the_key(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    key, said = bootstrapped(settings, tmp_path / "api_key")
    assert (tmp_path / "api_key").read_text().strip() == key
    assert (tmp_path / "api_key").stat().st_mode & 0o077 == 0
    assert str(tmp_path / "api_key") in said
    assert key not in said


def test_a_terminal_shows_it_once(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = os.openpty()
    with os.fdopen(here, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        key, said = bootstrapped(settings, tmp_path / "api_key")
        assert said.count(key) == 1
        assert bootstrapped(settings, tmp_path / "api_key") == (key, "")
    os.close(there)
