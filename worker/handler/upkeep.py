"""The clockwork: sweep leases, ring doorbells, keep the learning loop turning; and beside it, remove what is old."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core.domain.errors import Conflict, LorikeetError
from core.services import live_test, upkeep
from core.services import model as models
from core.services import model_update as updates
from core.services.clean_retrain import awaited, retrain_clean
from core.services.orphan import anywhere, sweep_orphans
from core.services.settlement import reconcile
from worker.runtime import Runtime

T = TypeVar("T")
_log = structlog.get_logger()
_NOW_AND_THEN, _SELDOM = 5, 30
"""Ticks between two looks at what waits for feedback, and between two rounds of what is not urgent."""

_AT_ONCE, _PART_SECONDS, _TIDY_SECONDS, _BUCKET_SECONDS = 0.0, 5.0, 60.0, 24 * 3600.0


def tick(runtime: Runtime, *, count: int) -> None:
    """One round. A part that fails is logged, and neither stops the others nor the next round."""
    settings = runtime.settings
    _attempt(runtime, lambda session: upkeep.sweep(session, stall_seconds=settings.stall_seconds))
    _attempt(
        runtime, lambda session: upkeep.ring_waiting(session, queue=runtime.queue, ring_seconds=settings.ring_seconds)
    )
    _attempt(runtime, reconcile)
    _attempt(runtime, models.reconcile)
    if count % _NOW_AND_THEN == 0:
        _replace_what_was_taken_back(runtime)
        _consider_updates(runtime)
    _look_at_rollouts(runtime, with_work=count % _SELDOM == 0)
    if count % _SELDOM == 0:
        _attempt(runtime, upkeep.forget)
    _attempt(runtime, partial(upkeep.say_alive, upkeep_id=runtime.worker_id))


def end(runtime: Runtime) -> None:
    """There will be no further round."""
    _attempt(runtime, partial(upkeep.say_gone, upkeep_id=runtime.worker_id))


class Housekeeping:
    """Removes files: of what was taken back, of what is old, and of nobody.

    In a thread of its own: a store is slow to delete, and the clockwork must not wait for it. What is old goes as fast
    as that is. The bucket is gone through part by part, with rests: from anywhere to its end, since this may not live
    for as long as the whole takes, then from its beginning, and from there again a day after its end.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._after, self._is_whole = anywhere(), False

    def start(self, stopped: threading.Event) -> None:
        """Tidy, and look at a part of the bucket, whenever it is time, until `stopped`."""
        threading.Thread(target=self._run, args=(stopped,), name="housekeeping", daemon=True).start()

    def _run(self, stopped: threading.Event) -> None:
        tidy_at = look_at = time.monotonic() + _TIDY_SECONDS
        while not stopped.wait(max(0.0, min(tidy_at, look_at) - time.monotonic())):
            if time.monotonic() >= tidy_at:
                tidy_at = self.tidy() + time.monotonic()
            if time.monotonic() >= look_at:
                look_at = self.look() + time.monotonic()

    def tidy(self) -> float:
        """Remove some of what was taken back and of what is old; for how many seconds there is no more."""
        runtime, retention = self._runtime, self._runtime.settings.retention
        parts = (
            partial(upkeep.erase_taken_back, store=runtime.store),
            partial(upkeep.remove_old, store=runtime.store, retention=retention),
            partial(upkeep.remove_abandoned, store=runtime.store, retention=retention),
        )
        removed = [_attempt(runtime, part) for part in parts]
        return _AT_ONCE if any(removed) else _TIDY_SECONDS

    def look(self) -> float:
        """Remove the orphans of the bucket's next part; the seconds until the part after it is due.

        What goes wrong is logged.
        """
        runtime, age = self._runtime, timedelta(days=self._runtime.settings.orphan_days)
        with _outlived():
            try:
                swept = sweep_orphans(runtime.database, runtime.store, after=self._after, older_than=age)
            except Conflict as refusal:
                _log.error("orphans_kept", error=refusal.message)
                return _BUCKET_SECONDS
            self._after = swept.last_key or ""
            if swept.last_key is not None:
                return _PART_SECONDS
            was_whole, self._is_whole = self._is_whole, True
            return _BUCKET_SECONDS if was_whole else _PART_SECONDS
        return _TIDY_SECONDS


def _replace_what_was_taken_back(runtime: Runtime) -> None:
    found: list[UUID] = []
    _attempt(runtime, lambda session: found.extend(awaited(session)))
    for update_id in found:
        step = partial(retrain_clean, update_id=update_id)
        _attempt(runtime, partial(step, queue=runtime.queue, settings=runtime.settings))


def _consider_updates(runtime: Runtime) -> None:
    found: list[tuple[UUID, UUID]] = []
    _attempt(runtime, lambda session: found.extend(updates.pairs_to_consider(session)))
    for tenant_id, model_id in found:
        pair = partial(updates.consider, tenant_id=tenant_id, model_id=model_id)
        _attempt(runtime, partial(pair, queue=runtime.queue, settings=runtime.settings))


def _look_at_rollouts(runtime: Runtime, *, with_work: bool) -> None:
    found: list[tuple[UUID, UUID]] = []
    _attempt(runtime, lambda session: found.extend(live_test.running(session)))
    for tenant_id, model_id in found:
        _attempt(runtime, partial(live_test.look, tenant_id=tenant_id, model_id=model_id, with_work=with_work))


def _attempt(runtime: Runtime, part: Callable[[Session], T]) -> T | None:
    """What came of it; None where it failed."""
    with _outlived(), runtime.database.transaction() as session:
        return part(session)
    return None


@contextmanager
def _outlived() -> Iterator[None]:
    """What goes wrong inside is logged, and ends there."""
    try:
        yield
    except LorikeetError as error:
        _log.warning("upkeep_failed", error=error.message)
    except Exception:  # noqa: BLE001  # the clockwork must outlive any single failure
        _log.exception("upkeep_failed_unexpectedly")
