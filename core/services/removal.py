"""Delete objects whose rows are gone, or never came."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.orm import Session

from core.domain.errors import LorikeetError, Unavailable
from core.infra.database import after_commit
from core.infra.object_store import ObjectStore

_log = structlog.get_logger()


def delete_after_commit(session: Session, store: ObjectStore, *, prefixes: Collection[str]) -> None:
    """Delete every object that begins with one of `prefixes` once the transaction is committed.

    Where the store is away then, whoever committed gets `Unavailable`, and the objects are orphans.
    """
    after_commit(session, lambda: delete_all(store, prefixes=prefixes))


def remove_after_commit(session: Session, store: ObjectStore, *, prefix: str) -> None:
    """Delete every object that begins with `prefix` once the transaction is committed."""
    after_commit(session, lambda: remove(store, prefix=prefix))


def delete_all(store: ObjectStore, *, prefixes: Collection[str]) -> None:
    """Delete every object that begins with one of `prefixes`.

    Raises:
        Unavailable: the store is away, and some may be left.
    """
    store.delete_many([key for prefix in prefixes for key, _ in store.list(prefix)])


def remove(store: ObjectStore, *, prefix: str) -> None:
    """Delete every object that begins with `prefix`; what a store that is away keeps is logged and left."""
    try:
        delete_all(store, prefixes=[prefix])
    except Unavailable as error:
        _log.warning("objects_left_behind", prefix=prefix, error=error.message)


@contextmanager
def removed_if_refused(store: ObjectStore, *, prefix: str | None) -> Iterator[None]:
    """Delete what was stored for a request, if anything, where the block around its transaction refuses it.

    An outage refuses nothing: the commit may have taken effect, and its rows name the objects. They stay; if there are
    no such rows, the sweep of orphans takes them.
    """
    try:
        yield
    except Unavailable:
        raise
    except LorikeetError:
        if prefix is not None:
            remove(store, prefix=prefix)
        raise
