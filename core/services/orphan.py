"""Objects that no row names: what killed runs, requests that broke off, and removed jobs left in the store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from uuid import UUID

import structlog

from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.repository import stored_object as rows

_log = structlog.get_logger()
_OURS = ("dataset", "job", "tenant")
"""Nobody else writes there. What lies elsewhere in the bucket is the operator's."""


@dataclass(frozen=True)
class Swept:
    """What a look at a part of the bucket came to. `last_key` is where it ended, None at the end of the bucket."""

    last_key: str | None
    removed: Sequence[str]


def sweep_orphans(
    database: Database, store: ObjectStore, *, after: str, older_than: timedelta, limit: int = 1000
) -> Swept:
    """Look at the objects behind a key, and remove those of age that nothing refers to.

    An object may be there for a while before its row is, so the young stay whatever there is.

    Raises:
        Unavailable: the store or the database is away.
    """
    found = store.page(after=after, limit=limit)
    born_by = datetime.now(UTC) - older_than
    aged = [each.key for each in found if each.written_at <= born_by and each.key.partition("/")[0] in _OURS]
    orphans = sorted(set(aged) - _known(database, aged)) if aged else []
    for key in orphans:
        store.delete(key)
    if orphans:
        _log.info("orphans_removed", count=len(orphans), first=orphans[0])
    return Swept(found[-1].key if found else None, orphans)


def _known(database: Database, keys: Sequence[str]) -> set[str]:
    """Those that some row refers to, or may come to refer to."""
    folder_of = {key: f"{PurePosixPath(key).parent}/" for key in keys}
    with database.transaction() as session:
        known = rows.named(session, keys=keys)
        checkpoints = rows.checkpoints(session, prefixes=set(folder_of.values()))
        at_work = rows.jobs_at_work(session, job_ids=_owners(keys, "job"))
        waiting = rows.open_datasets(session, dataset_ids=_owners(keys, "dataset"))
    is_busy = {f"job/{each}/" for each in at_work} | {f"dataset/{each}/" for each in waiting}
    return known | {
        key for key in keys if folder_of[key] in checkpoints or "/".join(key.split("/")[:2]) + "/" in is_busy
    }


def _owners(keys: Iterable[str], noun: str) -> set[UUID]:
    return {UUID(parts[1]) for key in keys if (parts := key.split("/"))[0] == noun and _is_id(parts[1])}


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
