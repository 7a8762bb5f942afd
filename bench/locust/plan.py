"""The plan that locust runs: a user asks for ten pictures, one after the other, and is gone. See `bench.load`.

It is read by locust in an environment of its own, so it imports nothing of ours.
"""

import os
import sys
import time
from typing import Any

import gevent
from locust import HttpUser, events, task

LOOPS = 10
_REQUEST = {"prompt": "a large red star on a blue background", "steps": 4}
_TIMEOUTS = (10.0, 60.0)  # seconds for a connection, and for an answer


class Client(HttpUser):
    """One thread of the plan."""

    began: float | None = None  # the first of all
    submitted = 0  # by all of them

    def on_start(self) -> None:
        """Take the key along."""
        self.client.headers["Authorization"] = f"Bearer {os.environ['LORIKEET_API_KEY']}"
        self.left = LOOPS

    @task
    def generate(self) -> None:
        """Submit once; after the last time wait until all are done: locust puts another in the place of who leaves."""
        Client.began = Client.began or time.time()
        with self.client.post("/api/generate", json=_REQUEST, timeout=_TIMEOUTS, catch_response=True) as answer:
            if answer.status_code not in (0, 202):  # without an answer locust says why
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
        self.left -= 1
        Client.submitted += 1
        if Client.submitted == LOOPS * self.environment.parsed_options.num_users:
            gevent.spawn(self.environment.runner.quit)
        while self.left == 0:
            gevent.sleep(1)


@events.quitting.add_listener
def conclude(environment: Any, **_: Any) -> None:
    """Count from the first request, where locust counts from the first answer; say what went wrong, and how often."""
    for entry in environment.stats.entries.values():
        entry.start_time = Client.began
    for error in environment.stats.errors.values():
        print(f"{error.occurrences} times: {error.error}", file=sys.stderr)
