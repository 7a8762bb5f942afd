"""The migrations on a database with rows: up, down, up again; complete; and safe to run twice at once."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import OperationalError

from cli.environment import ROOT
from core.infra.table import Base
from tests.row_of_each_table import insert_a_row_of_each_table
from tests.servers import Servers

MIGRATION_LOCK = 0x10121
PATIENCE_SECONDS = 60.0


def config_of(url: str) -> Config:
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["database_url"] = url
    return config


def head_of(config: Config) -> str:
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    """An empty database that no migration has seen."""
    settings = servers.settings()
    servers.drop_database(settings)
    name = settings.database_url.rpartition("/")[2]
    yield servers.create_database(name)
    servers.drop_database(settings)


def counts(engine: sa.Engine) -> dict[str, int]:
    """Rows of every table there is."""
    with engine.connect() as connection:
        names = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
        return {name: connection.scalar(sa.text(f"SELECT count(*) FROM {name}")) or 0 for name in names}


def test_every_migration_goes_down_and_up_again_over_rows(url: str) -> None:
    config, engine = config_of(url), sa.create_engine(url)
    command.upgrade(config, "head")
    insert_a_row_of_each_table(engine)
    before = counts(engine)
    assert before == dict.fromkeys(Base.metadata.tables, 1)
    for revision in list(ScriptDirectory.from_config(config).walk_revisions()):
        above = counts(engine)
        assert isinstance(revision.down_revision, str | None)
        command.downgrade(config, revision.down_revision or "base")
        below = counts(engine)
        assert below == {name: above[name] for name in below}  # what stays keeps its rows
    assert counts(engine) == {}
    command.upgrade(config, "head")
    insert_a_row_of_each_table(engine)
    assert counts(engine) == before
    engine.dispose()


def test_the_migrations_make_exactly_the_tables_of_the_code(url: str) -> None:
    config = config_of(url)
    command.upgrade(config, "head")
    command.check(config)


def checks(connection: sa.Connection, *, schema: str) -> dict[tuple[str, str], str]:
    """The condition of every check of a schema, by table and name."""
    query = """
        SELECT relname, conname, pg_get_constraintdef(pg_constraint.oid, true)
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
        WHERE contype = 'c' AND connamespace = CAST(:schema AS regnamespace)
    """
    return {(table, name): said for table, name, said in connection.execute(sa.text(query), {"schema": schema})}


def test_the_migrations_make_exactly_the_checks_of_the_code(url: str) -> None:
    """Which alembic does not compare."""
    command.upgrade(config_of(url), "head")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE SCHEMA of_the_code"))
        Base.metadata.create_all(connection.execution_options(schema_translate_map={None: "of_the_code"}))
        assert checks(connection, schema="public") == checks(connection, schema="of_the_code")
    engine.dispose()


def test_a_table_that_no_migration_makes_is_noticed(url: str) -> None:
    config, engine = config_of(url), sa.create_engine(url)
    command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE job DROP COLUMN priority CASCADE"))
    engine.dispose()
    with pytest.raises(Exception, match="priority"):
        command.check(config)


def test_a_canceled_job_that_was_left_in_line_is_ended(url: str) -> None:
    config, engine = config_of(url), sa.create_engine(url)
    command.upgrade(config, "head")
    insert_a_row_of_each_table(engine)
    command.downgrade(config, "0013")
    with engine.begin() as connection:
        forget = "lease_expires_at = NULL, completed_at = NULL"
        connection.execute(sa.text(f"UPDATE job SET status = 'queued', cancel_requested = true, {forget}"))
    command.upgrade(config, "head")
    with engine.connect() as connection:
        [(status, has_end)] = connection.execute(sa.text("SELECT status, completed_at IS NOT NULL FROM job"))
    engine.dispose()
    assert (status, has_end) == ("canceled", True)


def test_two_processes_may_migrate_at_once(url: str) -> None:
    """Both wait behind a lock we hold, so that they surely meet; then one does the work and the other finds none."""
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "alembic", "upgrade", "head"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        both = [subprocess.Popen(arguments, cwd=ROOT, env=environment) for _ in range(2)]
        await_waiting(connection, both)
        connection.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        assert [process.wait(PATIENCE_SECONDS) for process in both] == [0, 0]
        version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert version == [(head_of(config_of(url)),)]


def test_the_database_is_the_one_of_the_settings(url: str, tmp_path: Path) -> None:
    """Which may stand in `.env` alone."""
    (tmp_path / ".env").write_text(f"DATABASE_URL={url}\nPORT=5001\n")
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    arguments = [sys.executable, "-m", "alembic", "--config", str(ROOT / "pyproject.toml")]
    subprocess.run(
        [*arguments, "upgrade", "head"], cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, check=True
    )
    command.check(config_of(url))


def test_the_schema_of_a_later_version_stays(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Or who goes back to the version before could not start it."""
    config, engine = config_of(url), sa.create_engine(url)
    command.upgrade(config, "head")
    name(engine, "0999")
    command.upgrade(config, "head")
    assert "a later version" in caplog.text
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "0999"
    name(engine, "somebody")
    with pytest.raises(CommandError, match="somebody"):
        command.upgrade(config, "head")
    engine.dispose()


def name(engine: sa.Engine, revision: str) -> None:
    """Let the database say that this was its last migration."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


def await_waiting(connection: psycopg.Connection, processes: list[subprocess.Popen[bytes]]) -> None:
    """Until each process waits for the migrations' lock."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while connection.execute(query, [MIGRATION_LOCK]).fetchall() != [(len(processes),)]:
        assert [process.poll() for process in processes] == [None] * len(processes), "one did not wait"
        assert time.monotonic() < deadline, "they never came to the lock"
        time.sleep(0.05)


def test_a_migration_gives_up_on_a_table_in_use(url: str) -> None:
    """Rather than wait, and have every request to the table wait behind it."""
    config = config_of(url)
    command.upgrade(config, "head")
    with psycopg.connect(url) as connection:
        connection.execute("SELECT count(*) FROM job")
        with pytest.raises(OperationalError, match="lock timeout"):
            command.downgrade(config, "base")
    command.check(config)  # nothing was half done
