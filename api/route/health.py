"""Is it alive, is it ready, how is it doing."""

from collections.abc import Callable
from typing import Literal

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from api.dependency import RuntimeDep
from core.domain.errors import Unavailable

router = APIRouter(tags=["health"])
_log = structlog.get_logger()
Answer = Literal["ok", "away"]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """`queue` away is no reason not to be ready: jobs are accepted, and workers find them by themselves.

    `ending`: the process was asked to end, and serves on for a while only so that nobody need notice.
    """

    status: Literal["ok", "degraded", "away", "ending"]
    database: Answer
    queue: Answer
    store: Answer


@router.get("/healthz")
async def read_health() -> Health:
    """Whether the process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
def read_readiness(runtime: RuntimeDep, response: Response) -> Readiness:
    """Whether to send requests here: 503 where the database or the store does not answer, or the process ends."""
    database = _answers("database", runtime.database.check)
    store = _answers("store", runtime.store.check)
    queue: Answer = "ok" if runtime.queue.is_reachable() else "away"
    status: Literal["ok", "degraded", "away", "ending"] = "ok" if queue == "ok" else "degraded"
    if "away" in (database, store):
        status = "away"
    if runtime.ending.is_set():
        status = "ending"
    if status in ("away", "ending"):
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return Readiness(status=status, database=database, queue=queue, store=store)


def _answers(name: str, check: Callable[[], None]) -> Answer:
    try:
        check()
    except Unavailable as error:
        _log.warning("not_ready", system=name, error=error.message)
        return "away"
    return "ok"


@router.get("/metrics", response_class=Response)
def read_metrics(runtime: RuntimeDep) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(runtime.registry), media_type=CONTENT_TYPE_LATEST)
