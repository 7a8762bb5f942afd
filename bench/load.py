"""Requests a second of the API by a fixed plan: 100 users, all there after 10 seconds, 10 submits each.

`python -m bench.load` starts a whole system on this machine and lets locust run `bench/locust/plan.py` against it;
`--url` and LORIKEET_API_KEY name another. `bench/jmeter/generate.jmx` is the same plan for JMeter. QPS = all requests ÷
all the time, from the first request to the last answer. What is not answered after five minutes is left out, and said.
The whole plan on a system of its own is kept in `bench/results/load.json`.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import report
from cli.environment import ROOT
from cli.interruption import stoppable
from cli.ledger import any_free_port
from cli.system import running
from cli.up import await_model

USERS, A_SECOND, LOOPS = 100, 10, 10
PATIENCE_SECONDS = 300
_TIDYING_SECONDS = 60
_KEY = "LORIKEET_API_KEY"


@dataclass(frozen=True)
class Load:
    """What came of it; latencies in milliseconds, by share of the requests that were as fast.

    `requests` were answered or failed, of `planned` ones; `failures` are among them.
    """

    planned: int
    requests: int
    failures: int
    seconds: float
    latencies: Mapping[float, float]

    @property
    def qps(self) -> float:
        return self.requests / self.seconds

    @property
    def is_met(self) -> bool:
        """Whether every request was accepted."""
        return self.requests == self.planned and self.failures == 0

    def __str__(self) -> str:
        said = f"{self.requests} requests in {self.seconds:.1f} s: {self.qps:.1f} QPS, {self.failures} errors\n"
        if self.requests < self.planned:
            said += f"{self.planned - self.requests} more were not answered within {PATIENCE_SECONDS} s.\n"
        return said + ", ".join(f"p{share * 100:g} {ms:.0f} ms" for share, ms in self.latencies.items())


def main(given: Sequence[str] | None = None) -> bool:
    """Run the plan, print, and keep what it came to; whether every request was accepted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help=f"of an API that runs already; its key is in {_KEY}")
    parser.add_argument("--users", type=int, default=USERS)
    asked = parser.parse_args(given)
    if asked.url is not None and not os.environ.get(_KEY):
        parser.error(f"--url needs a key of that API: {_KEY}=… python -m bench.load --url {asked.url}")
    with stoppable(), target(asked.url) as (url, key):
        load = run(url, key, users=asked.users)
        print(load)
        if asked.url is None and asked.users == USERS:
            report.keep("load", figures_of(load))
        return load.is_met
    raise SystemExit("Stopped.")


@contextmanager
def target(url: str | None) -> Iterator[tuple[str, str]]:
    """The API to ask, and a key for it."""
    if url is not None:
        yield url, os.environ[_KEY]
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        running({"DATA_DIR": folder, "PORT": str(any_free_port()), "MAX_QUEUED_SECONDS": "inf"}, say=print) as system,
    ):
        await_model(system, Console(quiet=True))
        yield system.client.url, system.key


def run(url: str, key: str, *, users: int, patience_seconds: float = PATIENCE_SECONDS) -> Load:
    """Let locust run the plan; what it complains of goes to stderr.

    Raises:
        SystemExit: it failed, or nothing was answered; says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stats"
        how = ["--headless", "--users", str(users), "--spawn-rate", str(A_SECOND), "--only-summary"]
        end = ["--run-time", f"{patience_seconds:g}s", "--exit-code-on-error", "0", "--loglevel", "WARNING"]
        plan = ["--locustfile", str(ROOT / "bench" / "locust" / "plan.py"), "--host", url]
        try:
            done = subprocess.run(
                [str(ROOT / ".ci" / "tool"), "locust", *plan, *how, *end, "--json-file", str(file)],
                env=os.environ | {_KEY: key},
                check=False,
                stdout=subprocess.DEVNULL,
                timeout=patience_seconds + _TIDYING_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise SystemExit(f"locust did not end {_TIDYING_SECONDS} s after it should have.") from error
        if done.returncode != 0:
            raise SystemExit(f"locust failed with exit code {done.returncode}; what it said is above.")
        found = json.loads(file.with_suffix(".json").read_text())
    if not found:
        raise SystemExit(f"{url} answered nothing within {patience_seconds:g} s.")
    return read(found[0], planned=users * LOOPS)


def read(stats: Mapping[str, Any], *, planned: int) -> Load:
    """What locust wrote of the plan's only request."""
    times = sorted((float(ms), count) for ms, count in stats["response_times"].items())
    return Load(
        planned=planned,
        requests=stats["num_requests"],
        failures=stats["num_failures"],
        seconds=stats["last_request_timestamp"] - stats["start_time"],
        latencies={share: _quantile(times, share) for share in (0.5, 0.95, 0.99, 1.0)},
    )


def figures_of(load: Load) -> dict[str, Any]:
    """As they are kept."""
    return {
        "name": "load",
        "command": "python -m bench.load",
        "users": USERS,
        "planned": load.planned,
        "requests": load.requests,
        "errors": load.failures,
        "seconds": load.seconds,
        "qps": load.qps,
        "latency_ms": {f"p{share * 100:g}": ms for share, ms in load.latencies.items()},
    }


def _quantile(times: Sequence[tuple[float, int]], share: float) -> float:
    wanted, seen = share * sum(count for _, count in times), 0
    for ms, count in times:
        seen += count
        if seen >= wanted:
            return ms
    return 0.0


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
