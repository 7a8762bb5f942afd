"""Words on one model that go on while its updates are in flight: each threshold is one update, what is over is none."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from uuid import UUID

import httpx2 as httpx

from chaos.patience import came
from chaos.plant import Plant
from chaos.traffic import TRY_SECONDS, until_settled

_WRITERS = 10
_PATIENCE_SECONDS = 120.0


def flow(
    plant: Plant, *, key: str, tenant_id: UUID, say: Callable[[int], None], thresholds: int, threshold: int, over: int
) -> None:
    """Let users say so many thresholds of words, and some `over`.

    All words of a threshold but one come while the update before is in flight. That has ended when the last one comes,
    so that this one alone makes an update due, of exactly these words.

    Raises:
        TimeoutError: an update that was due did not start, or did not end.
    """
    said = 0
    with ThreadPoolExecutor(_WRITERS) as writers:
        for number in range(thresholds):
            list(writers.map(say, range(said, said + threshold - 1)))
            end_updates(plant, key=key, tenant_id=tenant_id)
            say(said + threshold - 1)
            said += threshold
            _await(partial(_has_updates, plant, tenant_id, number + 1))
        list(writers.map(say, range(said, said + over)))
    end_updates(plant, key=key, tenant_id=tenant_id)


def end_updates(plant: Plant, *, key: str, tenant_id: UUID) -> None:
    """Cancel those in flight, and wait until they have ended."""
    headers = {"Authorization": f"Bearer {key}"}

    def cancel(update_id: UUID, api: str) -> httpx.Response:
        path = f"{api}/api/model-updates/{update_id}/cancel"
        return httpx.post(path, headers=headers, timeout=TRY_SECONDS, trust_env=False)

    for update_id, is_in_flight in updates_of(plant, tenant_id).items():
        if is_in_flight:
            until_settled(partial(cancel, update_id), plant.apis, Random(str(update_id)), note=plant.journal.write)
    _await(lambda: not any(updates_of(plant, tenant_id).values()))


def _has_updates(plant: Plant, tenant_id: UUID, count: int) -> bool:
    return len(updates_of(plant, tenant_id)) >= count


def updates_of(plant: Plant, tenant_id: UUID) -> dict[UUID, bool]:
    """The updates of a tenant, and whether each is in flight."""
    with plant.locks["postgres"], plant.connect() as connection:
        query = "SELECT id, completed_at IS NULL FROM model_update WHERE tenant_id = %s"
        return {UUID(str(row[0])): bool(row[1]) for row in connection.execute(query, [tenant_id])}


def _await(is_so: Callable[[], bool]) -> None:
    if not came(is_so, within=_PATIENCE_SECONDS):
        raise TimeoutError("An update that was due did not start, or did not end.")
