"""Main file of the clockwork: runs `handler.upkeep` on a clock, and the postman, until it is asked to stop."""

import signal
import threading

import structlog

from core.infra.settings import load_settings
from core.infra.telemetry import configure_logging
from core.infra.webhook_sender import WebhookSender
from worker.handler.upkeep import Housekeeping, end, tick
from worker.handler.webhook import Postman
from worker.runtime import build_runtime

_log = structlog.get_logger()


def main() -> None:
    """Tick every `sweep_seconds` until SIGTERM or SIGINT."""
    settings = load_settings()
    configure_logging(settings, process="upkeep")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    runtime = build_runtime(settings)
    postman = Postman(runtime, WebhookSender(private=settings.webhook_private))
    postman.start()
    _log.info("upkeep_started")
    Housekeeping(runtime).start(stopped)
    count = 0
    while not stopped.wait(settings.sweep_seconds):
        tick(runtime, count=count)
        count += 1
    end(runtime)
    postman.stop()
    runtime.close()


if __name__ == "__main__":
    main()
