"""Hostile requests at every route: `python -m chaos.fuzz`. No answer may be a 5xx, none may show a stack trace.

Schemathesis makes them from the OpenAPI document: values at and beyond every bound, wrong types, missing and foreign
fields, and calls that follow one another's answers. It runs again, with the next seeds, until there were enough; the
API itself counts them. No program may die meanwhile or log an error of its own, and the requests must get far enough.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from secrets import randbits
from typing import Any

from chaos.furnishing import begin, furnish
from chaos.fuzz_round import SIDE_BY_SIDE, ask
from chaos.ground import ground
from chaos.log import said
from chaos.oracle import own_errors
from chaos.plant import Plant, Size
from chaos.record import Record
from chaos.report import Death
from chaos.tally import Tally, documented, lacking, take

_GIVEN = {
    "MAX_REQUESTS_PER_MINUTE": "inf",
    "MAX_QUEUED_JOBS": "200",
    "MAX_GPU_SECONDS_PER_DAY": "inf",
    "WEBHOOK_PRIVATE": "true",
    "S3_PUBLIC_ENDPOINT_URL": "",
    "LEASE_SECONDS": "60",
    "STALL_SECONDS": "900",
}
"""No limit is in the way, every file goes through the API, and a picture as large as is allowed is no hang."""

_ROUND_SECONDS = 40
_LESS_URGENT = 10


def main(given: Sequence[str] | None = None) -> None:
    """Ask until there were enough; exit code 0 where there is nothing to complain of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_500, help="at least; make fuzz-full asks a million times")
    parser.add_argument("--round-seconds", type=int, default=_ROUND_SECONDS, help="of one seed")
    parser.add_argument("--seed", type=int, help="of an earlier run's round")
    parser.add_argument("--data", type=Path, help="folder to work in, kept; a temporary one unless given")
    parser.add_argument("--out", type=Path, help="write the result to this page")
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    record = Record(
        f"python -m chaos.fuzz --requests {asked.requests} --round-seconds {asked.round_seconds}", seed=seed
    )
    size = Size(generation=1, training=1, api=1, upkeep=1)
    with ground(asked.data) as folder, Plant(folder, size=size, given=_GIVEN) as plant:
        operations = documented(plant.apis[0])
        tally, found = fuzz(plant, requests=asked.requests, round_seconds=asked.round_seconds, seed=seed)
        found += complain(tally, deaths=plant.deaths, log=said(folder / "logs"))
    complaints = found or list(lacking(tally, operations))  # what was cut short got nowhere
    answers = ", ".join(f"{status} {often} times" for status, often in tally.statuses.items())
    record.say(f"{tally.requests} requests: {answers}")
    for line in (*tally.lines(operations), *complaints):
        record.say(line)
    record.keep(asked.out, is_fine=not complaints)
    sys.exit(1 if complaints else 0)


def fuzz(plant: Plant, *, requests: int, round_seconds: int, seed: int) -> tuple[Tally, list[str]]:
    """Rounds until the API has counted so many requests, or there is something to complain of; both."""
    begin(plant)
    _put_last(plant)
    tally = Tally({})
    for number in count():
        seeds = range(seed + number * SIDE_BY_SIDE, seed + (number + 1) * SIDE_BY_SIDE)
        configuration = furnish(plant, number=number)
        print(f"{tally.requests} requests so far; --seed {seeds[0]}", flush=True)
        before = take(plant.apis[0])
        found = ask(plant, configuration, seconds=round_seconds, seeds=seeds)
        if plant.deaths:  # a new process counts anew
            break
        tally += take(plant.apis[0]) - before
        if found or tally.requests >= requests:
            break
    return tally, found


def _put_last(plant: Plant) -> None:
    """Nobody waits for the pictures and adapters of hostile requests; what asks and answers has the cores first."""
    for post in (*plant.posts("worker"), *plant.posts("trainer")):
        os.setpriority(os.PRIO_PGRP, post.pid, _LESS_URGENT)


def complain(tally: Tally, *, deaths: Iterable[Death], log: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Whatever no single answer shows."""
    for death in deaths:
        yield f"{death.name} (process {death.pid}) died and was started again."
    yield from (error.how for error in own_errors([], log))
    if tally.own_errors:
        yield f"{tally.own_errors} answers say that the fault is here, or broke off."


if __name__ == "__main__":
    main()
