import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli.backing import prepare, start_servers
from cli.embedded import postgres
from cli.ledger import Ledger
from cli.refusal import Refusal
from cli.supervisor import Supervisor

OTHERS = {"REDIS_URL": "redis://elsewhere/0", "S3_BUCKET": "elsewhere"}


class Launcher:
    """A launcher of Postgres alone over one data folder, which can die and be born again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.said: list[str] = []
        self._supervisors: list[Supervisor] = []
        prepare(data)

    def start(self) -> str:
        ledger = Ledger(self.data / "embedded.json")
        supervisor = Supervisor(ledger, self.said.append)
        self._supervisors.append(supervisor)
        return start_servers(supervisor, ledger, data=self.data, given=OTHERS)["DATABASE_URL"]

    def stop(self) -> None:
        for supervisor in self._supervisors:
            supervisor.stop()
        self._supervisors.clear()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path / "data")
    yield launcher
    launcher.stop()


def postmaster(launcher: Launcher) -> int:
    return int((launcher.data / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_rows_survive_a_restart_on_the_same_port(launcher: Launcher) -> None:
    url = launcher.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    launcher.stop()
    assert not (launcher.data / "postgres" / "postmaster.pid").exists(), "a fast shutdown leaves no pid file"
    assert launcher.start() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_launcher_that_died_leaves_a_server_that_the_next_one_ends(launcher: Launcher) -> None:
    url = launcher.start()
    first = postmaster(launcher)
    with psycopg.connect(url) as connection:  # a client that holds on
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        connection.commit()
        again = launcher.start()  # as after a kill -9: nobody stopped the first
    assert launcher.said == ["An earlier start did not end cleanly; stopping what it left: postgres."]
    assert postmaster(launcher) != first
    with psycopg.connect(again) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_server_that_was_killed_recovers(launcher: Launcher) -> None:
    url = launcher.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    subprocess.run(["kill", f"-{signal.SIGKILL}", str(postmaster(launcher))], check=True)
    with psycopg.connect(launcher.start()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_dead_servers_pid_that_belongs_to_another_program_is_no_hindrance(launcher: Launcher) -> None:
    launcher.start()
    note = launcher.data / "postgres" / "postmaster.pid"
    words = note.read_text()
    launcher.stop()
    note.write_text(words.replace(words.partition("\n")[0], str(os.getpid()), 1))
    with psycopg.connect(launcher.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_nobody_wrote_down_is_never_joined_by_a_second(launcher: Launcher) -> None:
    launcher.start()
    Ledger(launcher.data / "embedded.json").clear()
    with pytest.raises(Refusal, match=f"Another Postgres, pid {postmaster(launcher)}, runs over"):
        launcher.start()


def test_only_loopback_and_only_with_the_password(launcher: Launcher) -> None:
    url = launcher.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
    password = url.split(":")[2].partition("@")[0]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(password, "guessed"))


def test_a_half_made_cluster_is_never_taken_for_one(launcher: Launcher) -> None:
    unfinished = launcher.data / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with psycopg.connect(launcher.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()


@pytest.mark.parametrize("missing", ["PG_VERSION", "global/pg_control"])
def test_a_broken_cluster_is_explained_and_left_alone(launcher: Launcher, missing: str) -> None:
    launcher.start()
    launcher.stop()
    (launcher.data / "postgres" / missing).unlink()
    with pytest.raises(Refusal, match=r"not a complete Postgres cluster.*start again with an empty one"):
        launcher.start()
    assert (launcher.data / "postgres" / "base").exists()


def test_a_cluster_of_another_version_is_explained(launcher: Launcher) -> None:
    launcher.start()
    launcher.stop()
    (launcher.data / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(Refusal, match=r"made by Postgres 16, and this is Postgres 18.*pg_dump"):
        launcher.start()


def test_a_damaged_file_is_quoted_from_the_log(launcher: Launcher) -> None:
    launcher.start()
    launcher.stop()
    (launcher.data / "postgres" / "global" / "pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(Refusal, match=r"postgres did not start.*postgres\.log"):
        launcher.start()


def test_a_full_disk_is_said(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_MAKING", (*postgres._MAKING, "--waldir=/dev/full/wal"))
    with pytest.raises(Refusal, match="The database could not be made"):
        launcher.start()
    assert not (launcher.data / "postgres").exists()


def test_without_the_wheel_the_way_out_is_said(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "inside_package", lambda *names: None)
    with pytest.raises(Refusal, match="DATABASE_URL"):
        launcher.start()


def test_a_nearly_full_disk_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1, 1))
    with pytest.raises(Refusal, match="nearly full"):
        prepare(tmp_path / "data")


def test_its_log_says_what_went_wrong_and_shows_neither_row_nor_statement(launcher: Launcher) -> None:
    secret = "sesquipedalian"
    with psycopg.connect(launcher.start(), autocommit=True) as connection:
        assert connection.execute("SHOW log_error_verbosity").fetchone() == ("terse",)
        connection.execute("CREATE TABLE job (prompt text, steps int CONSTRAINT some_steps CHECK (steps > 0))")
        for statement, values in (
            (f"INSERT INTO job VALUES ('a {secret} star', 0)", None),
            ("INSERT INTO job VALUES (%s, 0)", (secret,)),
            (f"SELECT '{secret}', 1 / 0", None),
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(statement, values)
    log = (launcher.data / "logs" / "postgres.log").read_text()
    assert log.count("some_steps") == 2 and "division by zero" in log
    assert secret not in log
