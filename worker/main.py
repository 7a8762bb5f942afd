"""The Celery app of a worker process: `python -m worker.main generation` or `training`."""

import sys
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, signals

from core.domain.errors import LorikeetError
from core.domain.job import KINDS_OF_WORKER, JobKind, WorkerKind
from core.domain.message import QUEUE_NAME, TASK_NAME
from core.infra.celery_app import make_celery
from core.infra.settings import Settings, load_settings
from core.infra.telemetry import configure_logging
from core.services import run as runs
from worker.child import TrainingChild
from worker.poller import Poller, make_step
from worker.prefetcher import Prefetcher
from worker.runner import run_next
from worker.runtime import Runtime, build_runtime
from worker.watchdog import guard_engine

_log = structlog.get_logger()


def make_worker(settings: Settings, runtime: Runtime, *, kind: WorkerKind, work: Callable[[], bool]) -> Celery:
    """A Celery app whose every task means the same: there may be work, do the job that is first in line."""
    app = make_celery(settings)
    for job_kind in KINDS_OF_WORKER[kind]:
        app.task(_answer(work), name=TASK_NAME[job_kind])
    poller = Poller(runtime, kind=kind, slots=slots_of(kind, settings), work=work)
    app.steps["worker"].add(make_step(poller, runtime))
    return app


def _answer(work: Callable[[], bool]) -> Callable[..., None]:
    def answer(*, job_id: str) -> None:  # the id is for the logs of whoever rang; see docs/decisions
        try:
            work()
        except LorikeetError as error:
            _log.warning("doorbell_not_answered", rung_for=job_id, error=error.message)

    return answer


def slots_of(kind: WorkerKind, settings: Settings) -> int:
    """Jobs a worker holds at once: many pictures, one training."""
    return settings.generation_slots if kind is WorkerKind.GENERATION else 1


def main() -> None:
    """Work until SIGTERM: then pictures are finished, and a training goes back to the queue from its checkpoint."""
    if len(sys.argv) != 2 or sys.argv[1] not in list(WorkerKind):
        raise SystemExit(f"usage: python -m worker.main {'|'.join(WorkerKind)}")
    kind = WorkerKind(sys.argv[1])
    settings = load_settings()
    configure_logging(settings, process=f"worker-{kind}")
    runtime = build_runtime(settings)
    if kind is WorkerKind.TRAINING:
        child = TrainingChild(runtime)
        work, close = child.work, child.close
    else:
        work, close = _generation_work(runtime), runtime.engine.close
    try:
        serve(settings, runtime, kind=kind, work=work)
    finally:
        close()


def serve(settings: Settings, runtime: Runtime, *, kind: WorkerKind, work: Callable[[], bool]) -> None:
    """Run the Celery worker in this process until it was asked to end and has let go of its jobs."""
    app = make_worker(settings, runtime, kind=kind, work=work)
    signals.worker_shutting_down.connect(lambda **_: runtime.draining.set(), weak=False)
    signals.setup_logging.connect(_keep_logging, weak=False)
    try:
        app.worker_main(_arguments(kind, settings))
    finally:
        _say_gone(runtime)


def _keep_logging(**_: Any) -> None:
    """Celery leaves logging alone where somebody answers this signal."""


def _generation_work(runtime: Runtime) -> Callable[[], bool]:
    from worker.handler import generation, registration

    handlers = {JobKind.GENERATION: generation.handle, JobKind.REGISTRATION: registration.handle}
    _ = runtime.engine  # made now: the first job need not wait for the GPU stack
    guard_engine(runtime)
    Prefetcher(runtime, jobs_ahead=2 * runtime.settings.generation_slots).start()
    return lambda: run_next(runtime, handlers)


def _arguments(kind: WorkerKind, settings: Settings) -> list[str]:
    queues = ",".join(QUEUE_NAME[job_kind] for job_kind in KINDS_OF_WORKER[kind])
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return ["worker", "--pool=threads", f"--concurrency={slots_of(kind, settings)}", f"--queues={queues}", *quiet]


def _say_gone(runtime: Runtime) -> None:
    try:
        with runtime.database.transaction() as session:
            runs.say_gone(session, worker_id=runtime.worker_id)
    except LorikeetError as error:
        _log.warning("not_signed_off", error=error.message)
    runtime.close()


if __name__ == "__main__":
    main()
