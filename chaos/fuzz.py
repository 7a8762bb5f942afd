"""Hostile requests at every route: `python -m chaos.fuzz`. No answer may be a 5xx, none may show a stack trace.

Schemathesis makes them from the OpenAPI document: values at and beyond every bound, wrong types, missing and foreign
fields, and calls that follow one another's answers. It runs again, with the next seed, until there were enough; the
API itself counts them.
"""

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import randbits

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families

from chaos.ground import ground
from chaos.lesson import make_lesson
from chaos.plant import Plant, Post, Size
from cli.client import Client
from cli.environment import ROOT

_NO_LIMIT = {"MAX_REQUESTS_PER_MINUTE": "inf", "MAX_QUEUED_JOBS": "200", "MAX_GPU_SECONDS_PER_DAY": "inf"}
_CHECKS = "not_a_server_error,content_type_conformance,ignored_auth,shows_no_stack"
_ROUND_SECONDS = 25
_TAIL_LINES = 60


@dataclass(frozen=True)
class Tally:
    """What the API says that it answered, by status."""

    statuses: Mapping[int, int]

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    @property
    def own_errors(self) -> int:
        """Answers that say that the fault is here; 0 is a request that broke off."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


def main(given: Sequence[str] | None = None) -> None:
    """Ask until there were enough; exit code 0 where nothing was found and the process is the one that was started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_500, help="at least; make fuzz-full asks a million times")
    parser.add_argument("--round-seconds", type=int, default=_ROUND_SECONDS, help="of one seed")
    parser.add_argument("--seed", type=int, help="of an earlier run's round")
    parser.add_argument("--data", type=Path, help="folder to work in, kept; a temporary one unless given")
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    size = Size(generation=1, training=0, api=1, upkeep=1)
    with ground(asked.data) as folder, Plant(folder, size=size, given=_NO_LIMIT) as plant:
        furnish(plant)
        is_clean, tally = fuzz(plant, requests=asked.requests, round_seconds=asked.round_seconds, seed=seed)
    answers = ", ".join(f"{status} {count} times" for status, count in sorted(tally.statuses.items()))
    print(f"{tally.requests} requests: {answers}")
    sys.exit(0 if is_clean and tally.own_errors == 0 else 1)


def furnish(plant: Plant) -> None:
    """Something of each kind, so that ids can be right."""
    client = Client(plant.apis[0], plant.key)
    job = client.finish(client.generate({"prompt": "a star", "steps": 2}))
    client.say({"kind": "thumb", "image_id": job["outputs"][0]["id"], "liked": True, "user_ref": "ann"})
    client.fine_tune(make_lesson(client, steps=10))
    client.close()


def fuzz(plant: Plant, *, requests: int, round_seconds: int, seed: int) -> tuple[bool, Tally]:
    """Rounds until the API has counted so many requests; whether all were clean, and what it counted."""
    [api] = plant.posts("api")
    first, is_clean = api.pid, True
    while (tally := _tally(plant)).requests < requests and is_clean:
        print(f"{tally.requests} requests so far; --seed {seed}", flush=True)
        is_clean = _round(plant, seconds=round_seconds, seed=seed) and _is_same(api, first)
        seed += 1
    return is_clean, tally


def _is_same(api: Post, pid: int) -> bool:
    if api.pid == pid and api.is_alive:
        return True
    print("The API process ended and was started again.")
    return False


def _round(plant: Plant, *, seconds: int, seed: int) -> bool:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{plant.apis[0]}/openapi.json"]
    how = ["--checks", _CHECKS, "--phases", "coverage,fuzzing,stateful", "--continue-on-failure", "--no-shrink"]
    limits = ["--max-time", str(seconds), "--seed", str(seed), "--request-timeout", "30", "--workers", "2"]
    quiet = ["--warnings", "off", "--no-color", "--generation-database", "none", "--suppress-health-check", "all"]
    done = subprocess.run(
        [*command, *how, *limits, *quiet, "--header", f"Authorization: Bearer {plant.key}"],
        env=plant.environment | {"SCHEMATHESIS_HOOKS": "chaos.fuzz_check"},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        print("\n".join((done.stdout + done.stderr).splitlines()[-_TAIL_LINES:]))
    return done.returncode == 0


def _tally(plant: Plant) -> Tally:
    text = httpx.get(f"{plant.apis[0]}/metrics", trust_env=False, timeout=30).text
    statuses: Counter[int] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "lorikeet_http_requests_total":
                statuses[int(sample.labels["status"])] += int(sample.value)
    return Tally(statuses)


if __name__ == "__main__":
    main()
