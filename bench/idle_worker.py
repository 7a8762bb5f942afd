"""A generation worker whose jobs do nothing: `python -m bench.idle_worker`, for `bench.round_trip`."""

from core.domain.job import JobKind, WorkerKind
from core.domain.outcome import Outcome
from core.infra.settings import load_settings
from core.infra.telemetry import configure_logging
from worker.main import serve
from worker.runner import run_next
from worker.runtime import build_runtime


def main() -> None:
    """Work until SIGTERM."""
    settings = load_settings()
    configure_logging(settings, process="worker-idle")
    runtime = build_runtime(settings)
    handlers = {JobKind.GENERATION: lambda _run, _runtime: Outcome()}
    serve(settings, runtime, kind=WorkerKind.GENERATION, work=lambda: run_next(runtime, handlers))


if __name__ == "__main__":
    main()
