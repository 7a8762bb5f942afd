"""What happens when one tenant asks for ten times as much as there is: `python -m bench.overload`.

A whole system on this machine. Three modest tenants submit now and then; a fourth always has as many jobs under way as
the worker holds at once, so that the machine is busy: that is the others' baseline. Then the fourth sends ten times
what the worker can do, whatever it is answered. Refusals are timed again on the idle machine: of a tenant who has
nothing waiting, and of one who has as much waiting as he may by default, which every refusal looks through.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import httpx2 as httpx
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.orm import Session

from bench import report
from cli.interruption import stoppable
from cli.ledger import Ledger, any_free_port
from cli.system import System, running
from cli.up import await_model
from core.infra.database import Database
from core.infra.settings import Settings
from core.services import api_key as api_keys
from core.services.limit import set_limits
from core.services.tenant import create_tenant

_MODEST, _MODEST_SHARE = 3, 1 / 8
"""Tenants, and what each asks for of what the worker can do: half of its fair share."""

_TIMES_CAPACITY = 10
_REQUEST = {"prompt": "a large red star", "steps": 10}
_SLOTS = 8
_QUEUED = 50
_FULL_LINE = int(Settings.model_fields["max_queued_jobs"].default)
_WARM_SECONDS = 15.0
TARGETS = {"wait_ratio": 1.5, "refusal_p99_ms": 50.0, "memory_ratio": 1.05}


@dataclass(frozen=True)
class Tenant:
    """With a key."""

    id: UUID
    key: str


class Client:
    """Submits for a tenant, from any number of threads, and keeps what was answered."""

    def __init__(self, system: System, tenant: Tenant) -> None:
        self._http = httpx.Client(
            base_url=system.client.url, headers={"Authorization": f"Bearer {tenant.key}"}, timeout=60, trust_env=False
        )
        self.answers: list[tuple[int, float]] = []
        self.retry_after: list[int] = []

    def submit(self) -> str | None:
        """The job's id; None where it was refused.

        Raises:
            httpx.HTTPError: there was no answer, or one that is neither.
        """
        began = time.perf_counter()
        answer = self._http.post("/api/generate", json=_REQUEST)
        self.answers.append((answer.status_code, (time.perf_counter() - began) * 1e3))
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self.retry_after.append(int(answer.headers["Retry-After"]))
            return None
        answer.raise_for_status()
        return str(answer.json()["id"])

    def finish(self, job_id: str) -> None:
        """Wait for its end."""
        while self._http.get(f"/api/jobs/{job_id}").json()["completed_at"] is None:
            time.sleep(0.1)

    def latencies(self, status: int) -> list[float]:
        """Milliseconds of the answers of a status."""
        return [ms for code, ms in self.answers if code == status]

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print, keep in `bench/results/overload.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0, help="of each of the two measurements")
    asked = parser.parse_args(given)
    limits = {"MAX_QUEUED_JOBS": str(_QUEUED), "MAX_QUEUED_SECONDS": "inf", "MAX_REQUESTS_PER_MINUTE": "inf"}
    with stoppable(), tempfile.TemporaryDirectory() as folder:
        own = {"DATA_DIR": folder, "PORT": str(any_free_port()), "GENERATION_SLOTS": str(_SLOTS)}
        with running(own | limits, say=print) as system:
            await_model(system, Console(quiet=True))
            with closing(Database(system.settings.database_url, pool_size=2)) as database:
                found = measure(system, database, seconds=asked.seconds)
    tell(found)


def measure(system: System, database: Database, *, seconds: float) -> dict[str, Any]:
    """All the measurements; see the module."""
    tenants = [furnish(database, f"tenant-{number}") for number in range(_MODEST + 1)]
    greedy, modest = tenants[0], tenants[1:]
    with closing(Client(system, greedy)) as client:
        capacity = busy(client, seconds=_WARM_SECONDS) / _WARM_SECONDS
        print(f"the worker does {capacity:.1f} jobs/s", flush=True)
        with asking_now_and_then(system, modest, each=capacity * _MODEST_SHARE) as since:
            busy(client, seconds=seconds)
        baseline = waits(database, modest, since=since())
        client.answers.clear()
        with memory_watched(system) as memory:
            with asking_now_and_then(system, modest, each=capacity * _MODEST_SHARE) as since:
                taken = flood(client, per_second=capacity * _TIMES_CAPACITY, seconds=seconds)
            overload = waits(database, modest, since=since())
        answers, refusals = Counter(code for code, _ in client.answers), client.latencies(429)
    waited = {"baseline": report.quantiles(baseline), "overload": report.quantiles(overload)}
    idle, idle_full = (report.quantiles(refusals_when_idle(system, database, waiting=n)) for n in (0, _FULL_LINE))
    return {
        "capacity_jobs_per_second": capacity,
        "offered_per_second": answers.total() / taken,
        "answers": {str(code): count for code, count in sorted(answers.items())},
        "wait_seconds": waited,
        "wait_ratio": waited["overload"]["p50"] / waited["baseline"]["p50"],
        "wait_ratio_p95": waited["overload"]["p95"] / waited["baseline"]["p95"],
        "refusal_ms_under_overload": report.quantiles(refusals),
        "refusal_ms_idle": idle,
        f"refusal_ms_idle_with_{_FULL_LINE}_waiting": idle_full,
        "refusal_p99_ms": idle_full["p99"],
        "retry_after_seconds": report.quantiles(list(map(float, client.retry_after))),
        "memory_bytes": {"at_the_beginning": memory[0], "at_most": max(memory)},
        "memory_ratio": max(memory) / memory[0],
    }


def furnish(database: Database, name: str) -> Tenant:
    """A tenant with a key."""
    with database.transaction() as session:
        tenant = create_tenant(session, name=name)
        return Tenant(tenant.id, api_keys.create(session, tenant_id=tenant.id, name="bench"))


def busy(client: Client, *, seconds: float) -> int:
    """Always have as many jobs under way as the worker holds; how many were done in the time."""
    end, done = time.monotonic() + seconds, 0
    lock = threading.Lock()

    def one_after_the_other() -> None:
        nonlocal done
        while time.monotonic() < end:
            if job_id := client.submit():
                client.finish(job_id)
                with lock:
                    done += time.monotonic() < end

    with ThreadPoolExecutor(_SLOTS) as pool:
        for each in [pool.submit(one_after_the_other) for _ in range(_SLOTS)]:
            each.result()
    return done


def flood(client: Client, *, per_second: float, seconds: float) -> float:
    """Submit at a rate, whatever is answered; how many seconds it took until all was answered."""
    began, sent = time.monotonic(), list[Future[str | None]]()
    with ThreadPoolExecutor(32) as pool:
        for number in range(round(per_second * seconds)):
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            sent.append(pool.submit(client.submit))
        for each in sent:
            each.result()
    return time.monotonic() - began


@contextmanager
def asking_now_and_then(system: System, tenants: Sequence[Tenant], *, each: float) -> Iterator[Callable[[], datetime]]:
    """Every tenant submits at random times, `each` so many a second; when that began."""
    stopped, began = threading.Event(), datetime.now(UTC)

    def ask(tenant: Tenant, seed: int) -> None:
        random = Random(seed)
        with closing(Client(system, tenant)) as client:
            while not stopped.wait(random.expovariate(each)):
                client.submit()

    threads = [threading.Thread(target=ask, args=(tenant, seed)) for seed, tenant in enumerate(tenants)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: began
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def waits(database: Database, tenants: Sequence[Tenant], *, since: datetime) -> list[float]:
    """Seconds from each job's acceptance to its end."""
    query = text(
        "SELECT extract(epoch FROM completed_at - created_at) FROM job "
        "WHERE tenant_id = ANY(:tenants) AND created_at >= :since AND status = 'succeeded'"
    )
    given = {"tenants": [tenant.id for tenant in tenants], "since": since}
    while True:
        with database.transaction() as session:
            if not _open_jobs(session):
                return [float(seconds) for seconds in session.scalars(query, given)]
        time.sleep(0.5)


def _open_jobs(session: Session) -> int:
    return int(session.scalar(text("SELECT count(*) FROM job WHERE status IN ('queued', 'running')")) or 0)


def refusals_when_idle(system: System, database: Database, *, waiting: int) -> list[float]:
    """Milliseconds of refusals of a tenant with so many jobs in line, one after the other, while nothing else goes on.

    No worker takes those jobs: they are not ready for a day.
    """
    tenant = furnish(database, f"with {waiting} waiting")
    line = text(
        "INSERT INTO job (id, tenant_id, kind, spec, plan, base_model_id, place, cost_seconds, created_at, run_after) "
        "SELECT gen_random_uuid(), :tenant_id, 'generation', '{}', '{}', model.id, n, 0.2, "
        "now() - interval '1 hour' + n * interval '1 ms', now() + interval '1 day' "
        "FROM generate_series(1, :waiting) AS n, (SELECT id FROM stable_diffusion LIMIT 1) AS model"
    )
    with database.transaction() as session:
        set_limits(session, tenant_id=tenant.id, changes={"queued_jobs": float(waiting)})
        session.execute(line, {"tenant_id": tenant.id, "waiting": waiting})
    with database.transaction() as session:
        session.execute(text("ANALYZE job"))
    with closing(Client(system, tenant)) as client:
        for _ in range(600):
            client.submit()
        return client.latencies(429)[100:]


@contextmanager
def memory_watched(system: System) -> Iterator[list[int]]:
    """The API's memory in bytes, first at the beginning and then several times a second until the end."""
    readings, stopped = [resident_bytes(system)], threading.Event()

    def read() -> None:
        while not stopped.wait(0.2):
            readings.append(resident_bytes(system))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield readings
    finally:
        stopped.set()
        reader.join()


def resident_bytes(system: System) -> int:
    """Of the API's process."""
    ledger = Ledger(system.settings.data_dir / "embedded.json")
    [pid] = [mark.pid for mark in ledger.marks if mark.name == "api"]
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tell(found: Mapping[str, Any]) -> None:
    """Print, and keep."""
    for name, value in found.items():
        print(f"{name:>28}: {_shown(value)}")
    for name, target in TARGETS.items():
        print(f"{name:>28}: target ≤ {target}, {'met' if found[name] <= target else 'MISSED'}")
    stamp = {"machine": report.machine(), "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    (report.RESULTS / "overload.json").write_text(json.dumps(dict(found) | stamp, indent=1) + "\n")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
