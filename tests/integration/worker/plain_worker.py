"""A real worker process whose work takes as long as each job's plan says: no GPU stack, quick to start."""

import sys
import time

from core.domain.errors import JobStopped
from core.domain.job import KINDS_OF_WORKER, WorkerKind
from core.domain.outcome import Outcome
from core.infra.settings import load_settings
from core.infra.telemetry import configure_logging
from worker.main import serve
from worker.runner import Run, run_next
from worker.runtime import Runtime, build_runtime


def handle(run: Run, runtime: Runtime) -> Outcome:
    end = time.monotonic() + float(run.plan.get("seconds", 0))
    while time.monotonic() < end:
        if run.should_stop():
            raise JobStopped
        time.sleep(0.02)
    return Outcome()


if __name__ == "__main__":
    kind = WorkerKind(sys.argv[1])
    settings = load_settings()
    configure_logging(settings, process="plain")
    runtime = build_runtime(settings)
    handlers = dict.fromkeys(KINDS_OF_WORKER[kind], handle)
    serve(settings, runtime, kind=kind, work=lambda: run_next(runtime, handlers))
