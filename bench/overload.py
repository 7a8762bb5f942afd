"""What happens when one tenant asks for ten times as much as there is: `python -m bench.overload`.

A whole system on this machine. What its worker can do is measured by letting it empty a long line. Three modest tenants
submit now and then; a fourth always has as many jobs under way as the worker holds at once, so that the machine is
busy: that is the others' baseline. Then the fourth sends ten times what the worker can do, whatever it is answered. It
does so once more while obedient tenants, who may have little waiting, come back when they were told (`bench.retry`).
Refusals are timed again on the idle machine, also where as many jobs wait as may by default (`bench.refusal`).

Exit code 1 where a target is missed.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import text
from sqlalchemy.orm import Session

from bench import report, retry
from bench.refusal import when_idle
from bench.tenant import Answer, Client, Tenant, asking_now_and_then, furnish
from cli.interruption import stoppable
from cli.ledger import Ledger, any_free_port
from cli.system import System, running
from cli.up import await_model
from core.infra.database import Database

_MODEST, _MODEST_SHARE = 3, 1 / 8
"""Tenants, and what each asks for of what the worker can do: half of its fair share."""

_OBEDIENT, _OBEDIENT_LINE, _OBEDIENT_STEPS = 3, 3, 40
"""Tenants, how many jobs of each may wait, and their steps: so long that there is something to wait for."""

_TIMES_CAPACITY = 10
_SLOTS = 8
_QUEUED = 50
_MANY = 1000
"""More than are ever submitted at one instant: where there is not room for as many, they take turns at the door."""
TARGETS = {
    "offered_ratio": (9.5, False),
    "wait_ratio": (1.5, True),
    "wait_ratio_p95": (1.5, True),
    "modest_refused": (0, True),
    "refusal_p99_ms": (50.0, True),
    "retry_after_true": (0.9, False),
    "memory_ratio": (1.05, True),
}
"""By figure: what it should be, and whether that is the most. The p99 is that of the slowest kind of refusals."""


@dataclass(frozen=True)
class Scene:
    """The system, who is there, and for how long each measurement goes on."""

    system: System
    database: Database
    greedy: Client
    modest: Sequence[Tenant]
    capacity: float
    seconds: float

    @property
    def each(self) -> float:
        """What each of the modest asks for a second."""
        return self.capacity * _MODEST_SHARE


def main(given: Sequence[str] | None = None) -> bool:
    """Measure, print, keep in `bench/results/overload.json`; whether all targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0, help="of each of the three measurements")
    parser.add_argument("--line", type=int, default=200, help="jobs by which the capacity is measured")
    parser.add_argument("--trial", action="store_true", help="keep nothing: the figures do not count")
    asked = parser.parse_args(given)
    limits = {"MAX_QUEUED_JOBS": str(_QUEUED), "MAX_QUEUED_SECONDS": "inf", "MAX_REQUESTS_PER_MINUTE": "inf"}
    with stoppable(), tempfile.TemporaryDirectory() as folder:
        own = {"DATA_DIR": folder, "PORT": str(any_free_port()), "GENERATION_SLOTS": str(_SLOTS)}
        with running(own | limits, say=print) as system:
            await_model(system, Console(quiet=True))
            with closing(Database(system.settings.database_url, pool_size=2)) as database:
                found = measure(system, database, seconds=asked.seconds, line=asked.line)
        if not asked.trial:
            report.keep("overload", found)
        return tell(found)
    raise SystemExit("Stopped.")


def measure(system: System, database: Database, *, seconds: float, line: int) -> dict[str, Any]:
    """All the measurements; see the module."""
    capacity = drained(system, database, line=line)
    print(f"the worker does {capacity:.1f} jobs/s", flush=True)
    modest = [furnish(database, f"modest {number}") for number in range(_MODEST)]
    with closing(Client(system.client.url, furnish(database, "greedy"))) as greedy:
        scene = Scene(system, database, greedy, modest, capacity, seconds)
        calm, refused_when_calm = when_busy(scene)
        found = when_flooded(scene)
        told, refused_when_told = when_obeyed(scene)
    found |= told | when_idle(system, database)
    waited = {"baseline": report.quantiles(calm), "overload": found["wait_seconds"]}
    refusals = {name: figures["p99"] for name, figures in found.items() if name.startswith("refusal_ms")}
    return found | {
        "capacity_jobs_per_second": capacity,
        "offered_ratio": found["offered_per_second"] / capacity,
        "served_ratio": found["served_per_second"] / capacity,
        "wait_seconds": waited,
        "wait_ratio": waited["overload"]["p50"] / waited["baseline"]["p50"],
        "wait_ratio_p95": waited["overload"]["p95"] / waited["baseline"]["p95"],
        "modest_refused": refused_when_calm + found["modest_refused"] + refused_when_told,
        "refusal_p99_ms": max(refusals.values()),
    }


def drained(system: System, database: Database, *, line: int) -> float:
    """Jobs a second that the worker does while none of its slots is empty.

    It is the slope of how many are done, from when all have been submitted until fewer wait than there are slots.
    """
    tenant = furnish(database, "first", queued_jobs=float(line + _MANY))
    with closing(Client(system.client.url, tenant)) as client, ThreadPoolExecutor(_SLOTS) as pool:
        for sent in [pool.submit(client.submit) for _ in range(line)]:
            sent.result()
        assert not client.refusals
    query = text(
        "SELECT extract(epoch FROM completed_at) FROM job WHERE tenant_id = :tenant AND status = 'succeeded' "
        "AND completed_at > (SELECT max(created_at) FROM job WHERE tenant_id = :tenant) ORDER BY completed_at"
    )
    with at_rest(database) as session:
        ends = [float(end) for end in session.scalars(query, {"tenant": tenant.id})][:-_SLOTS]
    return statistics.linear_regression(ends, range(len(ends))).slope


def when_busy(scene: Scene) -> tuple[list[float], int]:
    """Seconds that the modest wait while the fourth keeps the machine busy, and how often they were refused."""
    with asking_now_and_then(scene.system, scene.modest, each=scene.each) as asking:
        keep_busy(scene.greedy, seconds=scene.seconds)
    return waits(scene.database, scene.modest, since=asking.since), asking.refused


def when_flooded(scene: Scene) -> dict[str, Any]:
    """What the flood does to those who wait, to who is refused, and to the API's memory."""
    scene.greedy.answers.clear()
    with (
        memory_watched(scene.system) as memory,
        asking_now_and_then(scene.system, scene.modest, each=scene.each) as asking,
    ):
        taken = flood(scene.greedy, per_second=scene.capacity * _TIMES_CAPACITY, seconds=scene.seconds)
        served = done_since(scene.database, asking.since)
    answers, refusals = Counter(answer.status for answer in scene.greedy.answers), scene.greedy.refusals
    return {
        "offered_per_second": answers.total() / taken,
        "served_per_second": served / taken,
        "answers": {str(code): count for code, count in sorted(answers.items())},
        "wait_seconds": report.quantiles(waits(scene.database, scene.modest, since=asking.since)),
        "modest_refused": asking.refused,
        "refusal_ms_under_overload": report.quantiles([answer.ms for answer in refusals]),
        "memory_bytes": {"at_the_beginning": memory[0], "at_most": max(memory)},
        "memory_ratio": max(memory) / memory[0],
    }


def when_obeyed(scene: Scene) -> tuple[dict[str, Any], int]:
    """What comes of doing as one is told during a flood, and how often the modest were refused meanwhile."""
    obedient = [
        furnish(scene.database, f"obedient {number}", queued_jobs=float(_OBEDIENT_LINE)) for number in range(_OBEDIENT)
    ]
    with ExitStack() as stack:
        url = scene.system.client.url
        clients = [stack.enter_context(closing(Client(url, each, steps=_OBEDIENT_STEPS))) for each in obedient]
        asking = stack.enter_context(asking_now_and_then(scene.system, scene.modest, each=scene.each))
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        until = time.monotonic() + scene.seconds
        obeying = {client.tenant: pool.submit(retry.obey, client, until=until) for client in clients}
        flood(scene.greedy, per_second=scene.capacity * _TIMES_CAPACITY, seconds=scene.seconds)
        found = {tenant: waits.result() for tenant, waits in obeying.items()}
    with at_rest(scene.database):
        started = {tenant: retry.starts(scene.database, tenant) for tenant in obedient}
    return retry.judged(found, started), asking.refused


def keep_busy(client: Client, *, seconds: float) -> None:
    """Always have as many jobs under way as the worker holds."""
    end = time.monotonic() + seconds

    def one_after_the_other() -> None:
        while time.monotonic() < end:
            if job_id := client.submit().job_id:
                client.finish(job_id)

    with ThreadPoolExecutor(_SLOTS) as pool:
        for each in [pool.submit(one_after_the_other) for _ in range(_SLOTS)]:
            each.result()


def flood(client: Client, *, per_second: float, seconds: float) -> float:
    """Submit at a rate, whatever is answered; how many seconds it took until all was answered."""
    began, sent = time.monotonic(), list[Future[Answer]]()
    with ThreadPoolExecutor(32) as pool:
        for number in range(round(per_second * seconds)):
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            sent.append(pool.submit(client.submit))
        for each in sent:
            each.result()
    return time.monotonic() - began


def waits(database: Database, tenants: Sequence[Tenant], *, since: datetime) -> list[float]:
    """Seconds from each job's acceptance to its end."""
    query = text(
        "SELECT extract(epoch FROM completed_at - created_at) FROM job "
        "WHERE tenant_id = ANY(:tenants) AND created_at >= :since AND status = 'succeeded'"
    )
    with at_rest(database) as session:
        return list(map(float, session.scalars(query, {"tenants": [each.id for each in tenants], "since": since})))


def done_since(database: Database, since: datetime) -> int:
    """Jobs of anybody's that succeeded."""
    query = text("SELECT count(*) FROM job WHERE status = 'succeeded' AND completed_at >= :since")
    with database.transaction() as session:
        return int(session.scalar(query, {"since": since}) or 0)


@contextmanager
def at_rest(database: Database) -> Iterator[Session]:
    """A transaction once no job is open."""
    while True:
        with database.transaction() as session:
            if not session.scalar(text("SELECT count(*) FROM job WHERE status IN ('queued', 'running')")):
                yield session
                return
        time.sleep(0.5)


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


def tell(found: Mapping[str, Any]) -> bool:
    """Print; whether all targets are met."""
    for name, value in found.items():
        print(f"{name:>32}: {_shown(value)}")
    met = [report.is_met(name, found[name], target, at_most=at_most) for name, (target, at_most) in TARGETS.items()]
    return all(met)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
