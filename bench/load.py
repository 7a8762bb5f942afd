"""Requests a second of the API by a fixed plan: 100 users, all there after 10 seconds, 10 submits each.

`python -m bench.load` starts a whole system on this machine and lets locust run `bench/locust/plan.py` against it;
`--url` and LORIKEET_API_KEY name another. `bench/jmeter/generate.jmx` is the same plan for JMeter. QPS = all requests ÷
all the time, from the first request to the last answer.
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

from cli.environment import ROOT
from cli.interruption import stoppable
from cli.ledger import any_free_port
from cli.system import running
from cli.up import await_model

USERS, A_SECOND = 100, 10
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Load:
    """What came of it; latencies in milliseconds, by share of the requests that were as fast."""

    requests: int
    failures: int
    seconds: float
    latencies: Mapping[float, float]

    @property
    def qps(self) -> float:
        return self.requests / self.seconds


def main(given: Sequence[str] | None = None) -> None:
    """Run the plan and print; exit code 0 where every request was accepted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of an API that runs already; its key is in LORIKEET_API_KEY")
    parser.add_argument("--users", type=int, default=USERS)
    asked = parser.parse_args(given)
    with stoppable(), target(asked.url) as (url, key):
        load = run(url, key, users=asked.users)
        print(f"{load.requests} requests in {load.seconds:.1f} s: {load.qps:.1f} QPS, {load.failures} errors")
        print(", ".join(f"p{share * 100:g} {ms:.0f} ms" for share, ms in load.latencies.items()))
        raise SystemExit(1 if load.failures else 0)
    raise SystemExit("Stopped.")


@contextmanager
def target(url: str | None) -> Iterator[tuple[str, str]]:
    """The API to ask, and a key for it."""
    if url is not None:
        yield url, os.environ["LORIKEET_API_KEY"]
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        running({"DATA_DIR": folder, "PORT": str(any_free_port()), "MAX_QUEUED_SECONDS": "inf"}, say=print) as system,
    ):
        await_model(system, Console(quiet=True))
        yield system.client.url, system.key


def run(url: str, key: str, *, users: int) -> Load:
    """Let locust run the plan."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stats"
        how = ["--headless", "--users", str(users), "--spawn-rate", str(A_SECOND), "--only-summary"]
        plan = ["--locustfile", str(ROOT / "bench" / "locust" / "plan.py"), "--host", url]
        subprocess.run(
            [str(ROOT / ".ci" / "tool"), "locust", *plan, *how, "--json-file", str(file), "--exit-code-on-error", "0"],
            env=os.environ | {"LORIKEET_API_KEY": key},
            check=True,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
        )
        [stats] = json.loads(file.with_suffix(".json").read_text())
    return read(stats)


def read(stats: Mapping[str, Any]) -> Load:
    """What locust wrote of the plan's only request."""
    times = sorted((float(ms), count) for ms, count in stats["response_times"].items())
    return Load(
        requests=stats["num_requests"],
        failures=stats["num_failures"],
        seconds=stats["last_request_timestamp"] - stats["start_time"],
        latencies={share: _quantile(times, share) for share in (0.5, 0.95, 0.99, 1.0)},
    )


def _quantile(times: Sequence[tuple[float, int]], share: float) -> float:
    wanted, seen = share * sum(count for _, count in times), 0
    for ms, count in times:
        seen += count
        if seen >= wanted:
            return ms
    return 0.0


if __name__ == "__main__":
    main()
