"""The operator's commands on a real database."""

from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from core.domain.holding import Holding, Residency
from core.domain.job import WorkerKind
from core.infra.database import Database
from core.infra.settings import Settings
from core.services import run as runs


@pytest.fixture(autouse=True)
def _found_by_the_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env is here
    for name in ("database_url", "redis_url", "s3_bucket", "s3_access_key_id"):
        monkeypatch.setenv(name.upper(), getattr(settings, name))
    for name in ("s3_secret_access_key", "secret_key"):
        monkeypatch.setenv(name.upper(), getattr(settings, name).get_secret_value())


def admin(*words: str) -> Result:
    return CliRunner().invoke(app, ["admin", *words])


def test_adapters_shows_what_is_resident(database: Database) -> None:
    holding = Holding(models={uuid4(): "tiny"}, adapters={"host": Residency(2, 2**20, 1, 1)})
    with database.transaction() as session:
        runs.say_alive(session, worker_id="here:1:ab", kind=WorkerKind.GENERATION, slots=4, holds=holding)
    shown = admin("adapters")
    [_, line] = shown.output.splitlines()
    assert line.startswith("here:1:ab  generation  4 ")
    assert line.endswith(" tiny    2 of 1.0 MiB, 50% hits  -")


def test_adapters_says_that_nobody_works() -> None:
    shown = admin("adapters")
    assert (shown.exit_code, shown.output) == (0, "No worker has said lately that it lives.\n")
