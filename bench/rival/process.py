"""A process that runs while something is measured."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_APP = "bench.rival.celery_worker"
CELERY = (sys.executable, "-m", "celery", "-A", _APP, "worker", "--concurrency", "1", "--loglevel", "ERROR")
"""A stock Celery worker with one process."""


@contextmanager
def at_work(command: Sequence[str], settings: Mapping[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """The process, with these environment variables beside ours; killed afterwards with its children."""
    process = subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it has nothing to save
        process.wait()
