"""Milliseconds from submit to answer of a job that does nothing ÷ those of a stock Celery task and its `.get()`.

`python -m bench.round_trip`. Ours goes through HTTP (`Prefer: wait`), is authenticated, checked, and committed in
Postgres when it is accepted, claimed and finished; Celery's goes from a client in this process through Redis and back.
Both have one worker, take turns, and are asked one after the other. Without the API is ours as well: from the service
that accepts jobs to the moment that its end is heard.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx2 as httpx
from celery import Celery

from bench import report
from bench.rival.process import CELERY, at_work
from bench.submit import REQUEST, backing, furnish, server, variables

TARGET = 1.3
_PATIENCE_SECONDS = 60


def main() -> bool:
    """Measure and print; the figures are milliseconds, the median of a round; whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="jobs of one round")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = stack.enter_context(backing(folder))
        key, environment = furnish(settings), os.environ | variables(settings)
        url = settings.redis_url.rpartition("/")[0] + "/7"
        stack.enter_context(at_work(CELERY, {"REDIS_URL": url}))
        stack.enter_context(at_work([sys.executable, "-m", "bench.idle_worker"], variables(settings)))
        stack.enter_context(server("api.main", environment, port=5078))
        queue = stack.enter_context(Celery(broker=url, backend=url))
        client = stack.enter_context(
            httpx.Client(headers={"Authorization": f"Bearer {key}", "Prefer": "wait=60"}, trust_env=False, timeout=90)
        )
        sides = {"stock Celery": partial(through_celery, queue), "ours": partial(through_api, client)}
        for trip in sides.values():
            median_of(trip, asked.jobs // 4)
        figures = report.interleave(
            asked.rounds, {name: partial(median_of, trip, asked.jobs) for name, trip in sides.items()}
        )
    ratio = statistics.median(figures["ours"]) / statistics.median(figures["stock Celery"])
    return report.write("round_trip", unit="ms", figures=figures, ratio=ratio, target=TARGET, at_most=True)


def median_of(trip: Callable[[], None], jobs: int) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(jobs):
        start = time.perf_counter()
        trip()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def through_celery(queue: Celery) -> None:
    """There and back."""
    queue.send_task("nothing", [REQUEST]).get(timeout=_PATIENCE_SECONDS)


def through_api(client: httpx.Client) -> None:
    """There and back."""
    answer = client.post("http://127.0.0.1:5078/api/generate", json=REQUEST)
    assert answer.status_code == 200, answer.text


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
