"""Upgrade under load, again and again: `python -m chaos.upgrade`. No client may notice, and no job may pay for it.

The system starts as an old version, that before the newest migration or the one that `--old` names, on that version's
schema. Clients submit all the time, through a load balancer. Then what docs/operations.md says of an upgrade is done:
the migration, then upkeep and the API, then the workers, one process after the other, each by SIGTERM. After that
processes are stopped and started anew until there were so many SIGTERMs.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from secrets import randbits
from typing import Any

from bench.report import quantiles
from chaos.balancer import Balancer
from chaos.ground import ground
from chaos.lesson import make_lesson
from chaos.old_version import work_tree
from chaos.patience import came
from chaos.plant import Plant, Post
from chaos.run import calm
from chaos.traffic import Load, Traffic
from cli.client import Client
from cli.migration import migrate
from cli.process import birth

_LONGEST_DRAIN_SECONDS = 30.0
_PATIENCE_SECONDS = 180.0
_LESSONS, _LESSON_STEPS = 3, 400
_SHARES = {"worker": 0.6, "api": 0.2, "upkeep": 0.1, "trainer": 0.1}
"""Of the SIGTERMs, to the processes of each kind."""


@dataclass
class Upgrade:
    """A system whose processes are stopped. `drains` are seconds from SIGTERM to the end, by kind."""

    plant: Plant
    balancer: Balancer
    drains: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in _SHARES})

    def bring_up(self) -> None:
        """From the old version to this one, as the operator is told to."""
        migrate(self.plant.direct.database_url)
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
        with ExitStack() as stack:
            pid, url = post.pid, self._url(post)
            if post.old is not None and url:
                stack.enter_context(self.balancer.leaving_out(url))
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
    """Exit code 0 where every client was served at once, no job paid an attempt, and each drain was short enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=200, help="SIGTERMs in all")
    parser.add_argument("--old", help="the commit to come from")
    parser.add_argument("--jobs-a-second", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    print(f"{asked.stops} SIGTERMs; --seed {seed}", flush=True)
    endless = Load(jobs=10**6, seconds=10**6 / asked.jobs_a_second)
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
        traffic = Traffic([balancer.url], plant.key, plant.journal, seed=seed, keeps_connections=False)
        with traffic.flowing(endless, is_endless=True):
            upgrade.bring_up()
            upgrade.go_on(asked.stops)
        traffic.close()
        calm(plant)
        is_fine = tell(upgrade, plant.journal.entries())
    sys.exit(0 if is_fine else 1)


def teach(plant: Plant, *, lessons: int) -> None:
    """Submit trainings, so that there are some to disturb for most of the time."""
    client = Client(plant.apis[0], plant.key)
    request = make_lesson(client, steps=_LESSON_STEPS)
    for seed in range(lessons):
        job = client.fine_tune(request | {"seed": seed})
        plant.journal.write(event="accepted", job_id=job["id"], key=f"lesson {seed}")
    client.close()


def tell(upgrade: Upgrade, journal: Sequence[dict[str, Any]]) -> bool:
    """Print what came of it; whether it is what was promised."""
    with upgrade.plant.connect() as connection:
        [paid] = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE attempt > 0 OR crash_count > 0), sum(interrupt_count),"
            " count(*) FILTER (WHERE status NOT IN ('succeeded', 'canceled')) FROM job"
        ).fetchall()
    jobs, payers, interrupts, failed = (int(str(number)) for number in paid)
    errors = Counter(
        str(entry.get("status") or entry.get("what") or entry.get("why"))
        for entry in journal
        if entry["event"] in ("refused", "no answer", "violation")
    )
    stops = sum(len(seconds) for seconds in upgrade.drains.values())
    print(f"{stops} SIGTERMs, the first of them to processes of the old version; {jobs} jobs")
    print(f"errors that clients saw: {sum(errors.values())} {dict(errors) or ''}")
    print(f"jobs that paid an attempt or a crash: {payers}; that did not succeed: {failed}; given back: {interrupts}")
    for kind, seconds in upgrade.drains.items():
        found = quantiles(seconds)
        print(f"{kind:>8}: {found['count']} ended, p50 {found.get('p50', 0):.1f} s, p99 {found.get('p99', 0):.1f} s")
    longest = quantiles(upgrade.drains["worker"]).get("p99", 0.0)
    return not errors and not payers and not failed and longest <= _LONGEST_DRAIN_SECONDS


if __name__ == "__main__":
    main()
