"""The clockwork: sweep leases, ring doorbells, keep the learning loop turning, remove what is old."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core.domain.errors import LorikeetError
from core.services import live_test, upkeep
from core.services import model_update as updates
from core.services.clean_retrain import awaited, retrain_clean
from core.services.orphan import sweep_orphans
from core.services.settlement import reconcile
from worker.runtime import Runtime

_log = structlog.get_logger()
_NOW_AND_THEN, SELDOM = 5, 30
"""Ticks between two looks at what waits for feedback, and between two rounds of what is not urgent."""

_ORPHANS_EVERY_SECONDS = 24 * 3600.0


def tick(runtime: Runtime, *, count: int) -> None:
    """One round. A part that fails is logged, and neither stops the others nor the next round."""
    settings = runtime.settings
    _attempt(runtime, lambda session: upkeep.sweep(session, stall_seconds=settings.stall_seconds))
    _attempt(
        runtime, lambda session: upkeep.ring_waiting(session, queue=runtime.queue, ring_seconds=settings.ring_seconds)
    )
    _attempt(runtime, reconcile)
    _replace_what_was_taken_back(runtime)
    if count % _NOW_AND_THEN == 0:
        _consider_updates(runtime)
    _look_at_rollouts(runtime, with_work=count % SELDOM == 0)
    if count % SELDOM == 0:
        _attempt(runtime, upkeep.forget)
        _attempt(runtime, lambda session: upkeep.erase_taken_back(session, store=runtime.store))
        _attempt(runtime, lambda session: upkeep.remove_old(session, store=runtime.store, retention=settings.retention))


class OrphanSweep:
    """Goes through the bucket part by part, from its beginning again a day after it came to the end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._after = ""
        self._rest_until = 0.0

    def step(self) -> None:
        """Look at the next part, if there is one for now."""
        if time.monotonic() < self._rest_until:
            return
        runtime, age = self._runtime, timedelta(days=self._runtime.settings.orphan_days)
        try:
            swept = sweep_orphans(runtime.database, runtime.store, after=self._after, older_than=age)
        except LorikeetError as error:
            _log.warning("upkeep_failed", error=error.message)
            return
        self._after = swept.last_key or ""
        if swept.last_key is None:
            self._rest_until = time.monotonic() + _ORPHANS_EVERY_SECONDS


def _replace_what_was_taken_back(runtime: Runtime) -> None:
    found: list[UUID] = []
    _attempt(runtime, lambda session: found.extend(awaited(session)))
    for update_id in found:
        _attempt(runtime, partial(retrain_clean, update_id=update_id, queue=runtime.queue))


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


def _attempt(runtime: Runtime, part: Callable[[Session], object]) -> None:
    try:
        with runtime.database.transaction() as session:
            part(session)
    except LorikeetError as error:
        _log.warning("upkeep_failed", error=error.message)
    except Exception:  # noqa: BLE001  # the clockwork must outlive any single failure
        _log.exception("upkeep_failed_unexpectedly")
