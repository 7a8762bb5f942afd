"""The chaos suite: `python -m chaos.run`. A seeded schedule of faults on the real system, and what they broke.

Exit code 0 where every promise was kept and every fault of the schedule happened; with `--without`, where a
promise was broken that the missing part keeps. The seed is printed; with it the same faults come at the same times.
"""

import argparse
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Any

from bench import report as benches
from chaos import report as reports
from chaos import transition
from chaos.fault import FAULTS
from chaos.ground import ground
from chaos.lesson import make_lesson
from chaos.log import said
from chaos.mutation import Part, noticed
from chaos.old_version import checked_out
from chaos.oracle import examine
from chaos.patience import Missed, set_on_error
from chaos.plant import Plant
from chaos.point import Point
from chaos.relay import NONE
from chaos.report import Report
from chaos.schedule import FULL, LEAST_CANCELS, LEAST_JOBS, SLICE, Due, plan
from chaos.traffic import Load, Traffic
from cli.client import Client
from core.domain.job import TERMINAL
from core.infra.object_store import ObjectStore

_CALM_SECONDS = 300.0
_HANDS = 24
_PATIENCE_SECONDS = 600.0
_LESSON_STEPS = 200
_GLANCE_SECONDS = 0.5


def main(given: Sequence[str] | None = None) -> None:
    """Run a schedule and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every fault as often as the docs promise; takes hours")
    parser.add_argument("--seconds", type=float, help="of trouble")
    parser.add_argument("--jobs", type=int, help="to submit meanwhile")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to see it again")
    parser.add_argument("--only", default="", help="only faults whose names match this pattern")
    parser.add_argument("--times", type=int, default=1, help="each of them so many times as often")
    parser.add_argument("--without", type=Part, choices=list(Part), help="take a part of the design out")
    parser.add_argument("--data", type=Path, help="folder to work in, kept; a temporary one unless given")
    parser.add_argument("--out", type=Path, help="write the report to OUT.md and OUT.json")
    asked = parser.parse_args(given)
    seconds = asked.seconds or (7200.0 if asked.full else 170.0)
    load = Load(jobs=asked.jobs or (6000 if asked.full else 360), seconds=seconds)
    often = FULL if asked.full else SLICE
    counts = {name: asked.times * count for name, count in often.items() if re.search(asked.only, name)}
    seed = asked.seed if asked.seed is not None else randbits(32)
    print(f"{sum(counts.values())} faults in {seconds:.0f} s, {load.jobs} jobs; --seed {seed}", flush=True)
    with ground(asked.data) as folder:
        report = run(folder, counts, load, seed=seed, without=asked.without)
    if asked.full:
        report = replace(report, least_accepted=LEAST_JOBS, least_cancels=LEAST_CANCELS)
    print("\n".join(reports.lines_of(report)))
    if asked.out:
        reports.write(report, asked.out)
    sys.exit(0 if report.is_as_meant else 1)


def run(data: Path, counts: Mapping[str, int], load: Load, *, seed: int, without: Part | None = None) -> Report:
    """All of it: the system, its clients, the faults, the calm, the oracle."""
    began, schedule = time.monotonic(), plan(counts, seconds=load.seconds, seed=seed)
    with Plant(data, without=without) as plant:
        with plant.connect() as connection:
            transition.install(connection)
        lesson = prepare_lesson(plant)
        # The doorbell of a canceled job serves one that lost its own, which would never be noticed then.
        traffic = Traffic(plant.apis, plant.key, plant.journal, seed=seed, cancels=without is not Part.RING)
        with traffic.flowing(load, lesson=lesson):
            happened = cause(plant, schedule)
        traffic.close()
        calm(plant)
        entries = plant.journal.entries()
        with plant.connect() as connection:
            findings = examine(connection, ObjectStore(plant.direct), entries, api_log=said(data / "logs", by="api-*"))
        return Report(
            command=f"python -m chaos.run{f' --without {without}' if without else ''}",
            commit=checked_out(),
            seed=seed,
            seconds=time.monotonic() - began,
            machine=benches.machine(),
            planned=Counter(due.fault for due in schedule),
            faults=happened,
            deaths=Counter(death.name for death in plant.deaths),
            accepted=len({entry["job_id"] for entry in entries if entry["event"] == "accepted"}),
            cancels=sum(entry["event"] == "canceled" for entry in entries),
            stopped=findings.stopped,
            datasets=sum(entry["event"] == "uploaded" for entry in entries),
            ended=Counter(ending_of(job) for job in findings.jobs),
            crashes_of_a_job=dict(sorted(Counter(job["crash_count"] for job in findings.jobs).items())),
            refused_stale=sum(each.get("event") == "ownership_lost" for each in said(data / "logs")),
            answers=reports.answers_of(entries),
            recovery_seconds=benches.quantiles(reports.recoveries(findings, plant.deaths)),
            wasted_share=reports.wasted_share(findings.transitions),
            blamed=findings.blamed,
            broken=findings.count(),
            how=[f"{each.promise}: {each.how}" for each in findings.broken[:50]],
            without=without,
            noticed=len(noticed(without, findings.broken)) if without else 0,
        )


def prepare_lesson(plant: Plant) -> dict[str, Any]:
    """What to ask for a training with; its pictures are there before anything happens."""
    with closing(Client(plant.apis[0], plant.key)) as client:
        return make_lesson(client, steps=_LESSON_STEPS)


def cause(plant: Plant, schedule: Sequence[Due]) -> dict[str, int]:
    """Let it all happen at its time, and again what missed; how often each fault happened in the end."""
    began, under_way, stopped = time.monotonic(), list[tuple[str, Future[bool]]](), threading.Event()
    with ThreadPoolExecutor(_HANDS, thread_name_prefix="fate") as hands, set_on_error(stopped):
        for due in schedule:
            time.sleep(max(0.0, began + due.at_seconds - time.monotonic()))
            under_way.append((due.fault, hands.submit(_let_happen, plant, due, stopped)))
    happened = dict.fromkeys((due.fault for due in schedule), 0)
    for name, future in under_way:
        happened[name] += future.result()
    return happened


def _let_happen(plant: Plant, due: Due, stopped: threading.Event) -> bool:
    """Whether it came to pass, at once or later, before all was `stopped`."""
    give_up_at, random = time.monotonic() + _PATIENCE_SECONDS, Random(due.seed)
    while time.monotonic() < give_up_at and not stopped.is_set():
        with suppress(Missed):
            FAULTS[due.fault](plant, random)
            return True
    return False


def heal(plant: Plant) -> None:
    """Let nothing more happen."""
    for relay in plant.relays.values():
        relay.suffer(NONE)
    for point in Point:
        plant.points.disarm(point)


def calm(plant: Plant) -> None:
    """Let nothing more happen, and wait until every job has ended, or until none has for a long time."""
    heal(plant)
    left: object = None
    since = time.monotonic()
    with plant.connect() as connection:
        while time.monotonic() < since + _CALM_SECONDS:
            query = "SELECT count(*) FROM job WHERE NOT status = ANY(%s)"
            [(count,)] = connection.execute(query, [list(TERMINAL)]).fetchall()
            if count == 0:
                return
            if count != left:
                left, since = count, time.monotonic()
            time.sleep(_GLANCE_SECONDS)


def ending_of(job: Mapping[str, object]) -> str:
    """How a job ended, and why where it failed."""
    code = job["error_code"]
    return f"{job['status']} ({code})" if code else str(job["status"])


if __name__ == "__main__":
    main()
