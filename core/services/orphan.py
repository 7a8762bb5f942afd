"""Objects that no row names: what killed runs, requests that broke off, and removed jobs left in the store."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from uuid import UUID, uuid4

import structlog

from core.domain.errors import Conflict, NotFound
from core.domain.object_key import INSTALLATION
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.repository import stored_object as rows
from core.infra.repository import tenant as tenants

_log = structlog.get_logger()
_OURS = ("dataset", "job", "tenant")
"""Nobody else writes there. What lies elsewhere in the bucket is the operator's."""


@dataclass(frozen=True)
class Swept:
    """What a look at a part of the bucket came to. `last_key` is where it ended, None at the end of the bucket."""

    last_key: str | None
    removed: Sequence[str]


def anywhere() -> str:
    """A place in the bucket to begin at: who began at its beginning each time might never come to its end."""
    return f"{random.choice(_OURS)}/{uuid4()}"


def sweep_orphans(
    database: Database, store: ObjectStore, *, after: str, older_than: timedelta, limit: int = 1000
) -> Swept:
    """Look at the objects behind a key, and remove those of age that nothing refers to.

    An object may be there for a while before its row is, so the young stay whatever there is.

    Raises:
        Conflict: the bucket is another database's; nothing is removed.
        Unavailable: the store or the database is away.
    """
    found = store.page(after=after, limit=limit)
    with database.transaction() as session:
        born_by = rows.time_before(session, age=older_than)
    aged = [each.key for each in found if each.written_at <= born_by and each.key.partition("/")[0] in _OURS]
    orphans = sorted(set(aged) - _known(database, aged)) if aged else []
    if orphans:
        _check_owner(database, store, is_doubtful=2 * len(orphans) > len(aged))
    removed = _remove(store, orphans, born_by)
    if removed:
        _log.info("orphans_removed", count=len(removed), first=removed[0])
    return Swept(found[-1].key if found else None, removed)


def _check_owner(database: Database, store: ObjectStore, *, is_doubtful: bool) -> None:
    """A database that was lost, or is the wrong one, knows nothing of the files; that makes them no orphans.

    The bucket says which database it belongs to. One that does not say it yet is claimed, unless most of what is seen
    there is unknown.
    """
    with database.transaction() as session:
        own = tenants.first_id(session)
    try:
        owner = store.get(INSTALLATION).decode()
    except NotFound:
        if is_doubtful:
            raise Conflict(
                f"Most files in {store.bucket} are unknown here, and no file `{INSTALLATION}` there says that it "
                f"is this database's. If it is, put one that holds {own}."
            ) from None
        store.put(INSTALLATION, str(own).encode(), content_type="text/plain")
        return
    if owner.strip() != str(own):
        raise Conflict(f"{store.bucket} belongs to the database of {owner.strip()[:100]}, and this is that of {own}.")


def _remove(store: ObjectStore, orphans: Sequence[str], born_by: datetime) -> Sequence[str]:
    """Those that were removed. A tenant's files are named by what they hold, so each of them is looked at once more."""
    kept = {key for key in orphans if key.startswith("tenant/") and not _remove_if_old(store, key, born_by)}
    store.delete_many([key for key in orphans if not key.startswith("tenant/")])
    return [key for key in orphans if key not in kept]


def _remove_if_old(store: ObjectStore, key: str, born_by: datetime) -> bool:
    """Whether it was removed: what is named by its content may have been put there again since it was listed."""
    written_at = store.written_at(key)
    if written_at is None or written_at > born_by:
        return False
    store.delete(key)
    return True


def _known(database: Database, keys: Sequence[str]) -> set[str]:
    """Those that some row refers to, or may come to refer to."""
    folder_of = {key: f"{PurePosixPath(key).parent}/" for key in keys}
    with database.transaction() as session:  # who may still write goes first: what is written then is seen as named
        job_ids = _owners(keys, "job")
        at_work = rows.jobs_at_work(session, job_ids=job_ids)
        waiting = rows.open_datasets(session, dataset_ids=_owners(keys, "dataset"))
        known = rows.named(session, keys=keys) | rows.trained(session, job_ids=job_ids)
        checkpoints = rows.checkpoints(session, prefixes=set(folder_of.values()))
    busy = {f"job/{each}/" for each in at_work} | {f"dataset/{each}/" for each in waiting}
    return known | {key for key in keys if folder_of[key] in checkpoints or "/".join(key.split("/")[:2]) + "/" in busy}


def _owners(keys: Iterable[str], noun: str) -> set[UUID]:
    parts = (key.split("/") for key in keys)
    return {UUID(each[1]) for each in parts if each[0] == noun and len(each) > 1 and _is_id(each[1])}


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
