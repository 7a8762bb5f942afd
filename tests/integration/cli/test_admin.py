"""The operator's commands on a real database."""

from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from cli.refusal import Refusal
from core.domain.api_key import is_formed
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


def only_key(tenant: str = "default") -> str:
    """The id of the tenant's first key, as the list shows it."""
    lines = admin("keys", "list", "--tenant", tenant).output.splitlines()
    return next(line.split()[0] for line in lines if "lk_" in line)


def test_a_key_is_made_shown_replaced_and_ended() -> None:
    assert admin("tenant", "add", "ann").exit_code == 0
    how = ("--name", "app", "--scopes", "generate,feedback", "--expires-in", "90d")
    made = admin("keys", "add", "--tenant", "ann", *how)
    key = made.output.strip()
    assert is_formed(key)
    listed = admin("keys", "list", "--tenant", "ann").output
    assert key not in listed
    assert all(word in listed for word in (key[:9], "app", "feedback,generate", "valid until", "never"))
    heir = admin("keys", "rotate", only_key("ann"), "--overlap", "12h").output.strip()
    assert is_formed(heir)
    assert heir != key
    assert is_formed(admin("keys", "rotate", only_key("ann"), "--expires-in", "30d").output.strip())
    assert admin("keys", "list", "--tenant", "ann").output.count("valid until") == 3
    assert admin("keys", "revoke", only_key("ann")).exit_code == 0
    assert "revoked" in admin("keys", "list", "--tenant", "ann").output


def test_a_key_that_cannot_be_is_refused_in_words() -> None:
    admin("tenant", "add", "bob")
    for wrong, words in (
        (["--scopes", "paint"], "The scopes are generate, train, feedback, admin."),
        (["--expires-in", "soon"], "soon is no duration; say 30m, 12h or 90d."),
        (["--expires-in", ""], "Nothing is no duration; say 30m, 12h or 90d."),
    ):
        refused = admin("keys", "add", "--tenant", "bob", *wrong)
        assert refused.exit_code != 0
        assert words in refused.output + str(refused.exception)
    assert "There is no API key" in str(admin("keys", "revoke", str(uuid4())).exception)


def test_limits_are_shown_set_and_taken_back() -> None:
    admin("tenant", "add", "eve")
    assert "queued_jobs  10000\n" in admin("limits", "show", "--tenant", "eve").output
    few = ("queued_jobs=5", "gpu_seconds_per_day=3600", "requests_per_minute=inf", "share=0.5")
    given = admin("limits", "set", *few, "--tenant", "eve")
    assert given.output.splitlines() == [
        "requests_per_minute  inf",
        "queued_jobs  5",
        "queued_seconds  3600",
        "gpu_seconds_per_day  3600",
        "share  0.5",
    ]
    assert "queued_jobs  10000\n" in admin("limits", "set", "queued_jobs=default", "--tenant", "eve").output
    for wrong in ("queued=5", "queued_jobs=-1", "queued_jobs=nan", "queued_jobs", "queued_jobs=many", "share=0"):
        refused = admin("limits", "set", wrong, "--tenant", "eve")
        assert isinstance(refused.exception, Refusal)
