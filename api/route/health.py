"""Is it alive, is it ready, how is it doing."""

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.dependency import RuntimeDep
from api.metric import SystemCollector

router = APIRouter(tags=["health"])
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
async def read_readiness(runtime: RuntimeDep, response: Response) -> Readiness:
    """Whether to send requests here: 503 where the database or the store does not answer, or the process ends."""
    found = await runtime.reach.take()
    status: Literal["ok", "degraded", "away", "ending"] = "ok" if found.queue else "degraded"
    if not (found.database and found.store):
        status = "away"
    if runtime.ending.is_set():
        status = "ending"
    if status in ("away", "ending"):
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return Readiness(status=status, database=_said(found.database), queue=_said(found.queue), store=_said(found.store))


def _said(answers: bool) -> Answer:
    return "ok" if answers else "away"


@router.get("/metrics", response_class=Response)
async def read_metrics(runtime: RuntimeDep) -> Response:
    """Figures for Prometheus: requests as they are counted now, the system as it was some seconds ago at most."""
    system = SystemCollector(await runtime.metrics.take())
    text = await run_in_threadpool(lambda: generate_latest(runtime.registry) + generate_latest(system))
    return Response(text, media_type=CONTENT_TYPE_LATEST)
