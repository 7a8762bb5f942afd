"""Upgrade under load, again and again: `python -m chaos.upgrade`. No client may notice, and no job may pay for it.

The system starts as an old version, that before the newest migration or the one that `--old` names, on that version's
schema. Clients submit all the time, through a load balancer; half of them keep their connections. Then what
docs/operations.md says of an upgrade is done: the migration, then upkeep and the API, then the workers, one process
after the other, each by SIGTERM. After that processes are stopped and started anew until there were so many SIGTERMs.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from secrets import randbits
from typing import Any

from bench.report import machine, quantiles
from chaos import transition
from chaos.balancer import Balancer
from chaos.ground import ground
from chaos.lesson import make_lesson
from chaos.log import said
from chaos.old_version import work_tree
from chaos.oracle import examine
from chaos.patience import came
from chaos.plant import Plant, Post
from chaos.report import keep
from chaos.run import calm
from chaos.traffic import Load, Traffic
from cli.client import Client
from cli.migration import migrate
from cli.process import birth
from core.infra.object_store import ObjectStore

_LONGEST_DRAIN_SECONDS = 30.0
_PATIENCE_SECONDS = 180.0
_MOST_TOLD = 50
_LESSONS, _LESSON_STEPS = 3, 400
_SHARES = {"worker": 0.6, "api": 0.2, "upkeep": 0.1, "trainer": 0.1}
"""Of the SIGTERMs, to the processes of each kind."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it. `payers` are jobs that paid an attempt or a crash, `failed` those that did not succeed.

    `interrupts` is how often a run was given back, `errors` what clients saw, `drains` the seconds from SIGTERM to the
    end by kind of process, `broken` what the oracle says.
    """

    seed: int
    machine: Mapping[str, Any]
    stops: int
    jobs: int
    payers: int
    failed: int
    interrupts: int
    errors: Mapping[str, int]
    drains: Mapping[str, Mapping[str, float]]
    broken: Sequence[str]

    @property
    def is_fine(self) -> bool:
        """Whether it is what was promised."""
        longest = self.drains["worker"].get("p99", 0.0)
        harm = self.errors or self.payers or self.failed or self.broken
        return not harm and longest <= _LONGEST_DRAIN_SECONDS

    def lines(self) -> Iterator[str]:
        """All of it as Markdown."""
        on = f"{self.machine['cpu']} ({self.machine['cores']} cores)"
        yield f"`python -m chaos.upgrade`, seed {self.seed}, on {on}.\n"
        yield f"- {self.stops} SIGTERMs, the first of them to processes of the old version; {self.jobs} jobs"
        yield f"- errors that clients saw: {sum(self.errors.values())} {dict(self.errors) or ''}"
        yield f"- jobs that paid an attempt or a crash: {self.payers}; that did not succeed: {self.failed}"
        yield f"- runs that were given back: {self.interrupts}"
        yield f"- promises that were broken: {len(self.broken)}"
        yield from (f"  - {how}" for how in self.broken[:_MOST_TOLD])
        yield "\n| SIGTERM to | times | ended in (p50) | (p99) |\n|---|---|---|---|"
        for kind, found in self.drains.items():
            yield f"| {kind} | {found['count']} | {found.get('p50', 0):.1f} s | {found.get('p99', 0):.1f} s |"


@dataclass
class Upgrade:
    """A system whose processes are stopped. `drains` are seconds from SIGTERM to the end, by kind."""

    plant: Plant
    balancer: Balancer
    drains: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _SHARES})

    def bring_up(self) -> None:
        """From the old version to this one, as the operator is told to."""
        migrate(self.plant.direct.database_url)
        with self.plant.connect() as connection:
            transition.install(connection)
        for kind in ("upkeep", "api", "worker", "trainer"):
            for post in self.plant.posts(kind):
                self.renew(kind, post)

    def go_on(self, stops: int) -> None:
        """Stop processes of every kind side by side, and of one kind one after the other."""
        with ThreadPoolExecutor(len(_SHARES)) as hands:
            for each in [hands.submit(self._go_on, kind, round(stops * share)) for kind, share in _SHARES.items()]:
                each.result()

    def _go_on(self, kind: str, stops: int) -> None:
        posts = self.plant.posts(kind)
        for number in range(stops - len(self.drains[kind])):
            self.renew(kind, posts[number % len(posts)])

    def renew(self, kind: str, post: Post) -> None:
        """Stop a process by SIGTERM, and wait until this version's works in its place.

        Raises:
            TimeoutError: it does not end, or does not come back.
        """
        pid, url = post.pid, self._url(post)
        post.old = None
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        _await(lambda: birth(pid) is None)
        self.drains[kind].append(time.monotonic() - began)
        _await(lambda: post.pid != pid and self._works(post, url))

    def _url(self, post: Post) -> str | None:
        name, _, number = post.name.partition("-")
        return self.plant.apis[int(number)] if name == "api" else None

    def _works(self, post: Post, url: str | None) -> bool:
        if url:
            return url in self.balancer.ready
        if post.name.startswith("upkeep"):
            return True
        with self.plant.connect() as connection:
            query = "SELECT FROM worker_presence WHERE id LIKE %s"
            return connection.execute(query, [f"%:{post.pid}:%"]).fetchone() is not None


def _await(is_so: Callable[[], bool]) -> None:
    if not came(is_so, within=_PATIENCE_SECONDS):
        raise TimeoutError("A process does not end, or does not come back.")


def main(given: Sequence[str] | None = None) -> None:
    """Exit code 0 where clients saw no error, no job paid an attempt, every promise was kept, and drains were short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=200, help="SIGTERMs in all")
    parser.add_argument("--old", help="the commit to come from; it must know DRAIN_SECONDS")
    parser.add_argument("--jobs-a-second", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", type=Path, help="write what came of it to OUT.md and OUT.json")
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    print(f"{asked.stops} SIGTERMs; --seed {seed}", flush=True)
    half = Load(jobs=10**6, seconds=10**6 / (asked.jobs_a_second / 2))  # endless; twice
    with (
        ground() as folder,
        work_tree(asked.old) as old,
        # A worker that takes long to drain is meant to be seen, and not taken for dead.
        Plant(folder, given={"LEASE_SECONDS": "10", "STALL_SECONDS": "60", "DRAIN_SECONDS": "1"}, old=old) as plant,
        Balancer(plant.apis) as balancer,
    ):
        _await(lambda: len(balancer.ready) == len(plant.apis))
        upgrade = Upgrade(plant, balancer)
        teach(plant, lessons=_LESSONS)
        leaving, staying = (
            Traffic([balancer.url], plant.key, plant.journal, seed=seed + keeps, keeps_connections=keeps)
            for keeps in (False, True)
        )
        with leaving.flowing(half, is_endless=True), staying.flowing(half, is_endless=True):
            upgrade.bring_up()
            upgrade.go_on(asked.stops)
        leaving.close()
        staying.close()
        calm(plant)
        outcome = judge(upgrade, seed=seed)
    print("\n".join(outcome.lines()))
    if asked.out:
        keep(asked.out, figures=vars(outcome), lines=outcome.lines())
    sys.exit(0 if outcome.is_fine else 1)


def teach(plant: Plant, *, lessons: int) -> None:
    """Submit trainings, so that there are some to disturb for most of the time."""
    client = Client(plant.apis[0], plant.key)
    request = make_lesson(client, steps=_LESSON_STEPS)
    for seed in range(lessons):
        job = client.fine_tune(request | {"seed": seed})
        plant.journal.write(event="accepted", job_id=job["id"], key=f"lesson {seed}")
    client.close()


def judge(upgrade: Upgrade, *, seed: int) -> Outcome:
    """What came of it, once everything has ended."""
    plant, journal = upgrade.plant, upgrade.plant.journal.entries()
    with plant.connect() as connection:
        [paid] = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE attempt > 0 OR crash_count > 0), sum(interrupt_count),"
            " count(*) FILTER (WHERE status NOT IN ('succeeded', 'canceled')) FROM job"
        ).fetchall()
        api_log = said(plant.data / "logs", by="api-*")
        broken = examine(connection, ObjectStore(plant.direct), journal, api_log=api_log).broken
    jobs, payers, interrupts, failed = (int(str(number)) for number in paid)
    errors = Counter(
        str(entry.get("status") or entry.get("what") or entry.get("why"))
        for entry in journal
        if entry["event"] in ("refused", "no answer", "violation")
    )
    return Outcome(
        seed=seed,
        machine=machine(),
        stops=sum(len(seconds) for seconds in upgrade.drains.values()),
        jobs=jobs,
        payers=payers,
        failed=failed,
        interrupts=interrupts,
        errors=errors,
        drains={kind: quantiles(seconds) for kind, seconds in upgrade.drains.items()},
        broken=[f"{each.promise}: {each.how}" for each in broken],
    )


if __name__ == "__main__":
    main()
