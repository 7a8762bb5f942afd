"""The HTTP front door: `uvicorn api.main:create_app --factory`."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import problem
from api.body import Bodies
from api.frame import Frame
from api.metric import HttpMetrics
from api.route import (
    adapter,
    dataset,
    feedback,
    generation,
    health,
    image,
    job,
    lineage,
    model,
    model_update,
    policy,
    rollout,
    training,
    webhook,
)
from api.runtime import Runtime, build_runtime
from core.infra.settings import Settings, load_settings
from core.infra.telemetry import configure_logging

_ROUTES = (
    *(generation, training, job, webhook, dataset, adapter, model, image),
    *(feedback, policy, model_update, lineage, rollout, health),
)
_DESCRIPTION = """Stable Diffusion that learns from its users.

Every route beneath `/api` needs an API key: `Authorization: Bearer <key>`. In its place a file may have a signed URL,
and feedback the token of its image. Health, metrics and this document need none.

Every error is an RFC 9457 problem with a stable `code`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Settings come from the environment unless given; connections open when first used."""
    if settings is None:
        settings = load_settings()
        configure_logging(settings, process="api")
    runtime = build_runtime(settings)
    app = FastAPI(
        title="Lorikeet",
        description=_DESCRIPTION,
        version=_version(),
        lifespan=_lifespan,
        responses=problem.PROBLEMS,
        redoc_url=None,
    )
    app.state.runtime = runtime
    problem.install(app)
    metrics = HttpMetrics(runtime.registry)
    app.add_middleware(Frame, metrics=metrics, bodies=Bodies(settings), ending=runtime.ending)
    for room in _ROUTES:
        app.include_router(room.router)
        served = [route for route in room.router.routes if isinstance(route, APIRoute)]
        metrics.expect((method, route.path) for route in served for method in route.methods or ())
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    runtime: Runtime = app.state.runtime
    with _drained_at_the_end(runtime):
        yield
    runtime.close()


@contextmanager
def _drained_at_the_end(runtime: Runtime) -> Iterator[None]:
    """Let requests that wait for a job go as soon as the process is asked to end, before the server's own patience.

    With `drain_seconds` the server hears of it that much later, or at the second time: whoever sends requests here has
    until then to see on /readyz that it should not.
    """
    previous, loop, delayed = {}, asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        handler, seconds = previous[signal.Signals(number)], runtime.settings.drain_seconds
        is_first = not runtime.ending.is_set()
        runtime.ending.set()
        runtime.watch.release()
        if callable(handler) and is_first and seconds:
            loop.call_soon_threadsafe(lambda: delayed.append(loop.call_later(seconds, handler, number, frame)))
        elif callable(handler):
            for each in delayed:
                each.cancel()
            handler(number, frame)

    for number, handler in previous.items():
        if callable(handler):
            signal.signal(number, handle)
    try:
        yield
    finally:
        runtime.watch.release()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _version() -> str:
    try:
        return version("lorikeet")
    except PackageNotFoundError:  # run from its sources
        return "0"
