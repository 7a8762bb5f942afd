"""One training, killed again and again: `python -m chaos.training`. Its weights must be those of an undisturbed one.

Every run of it ends by kill -9: of its worker's whole group or of its own process at a random instant, or of its own
process at a named point of a checkpoint; or else by a SIGTERM, which comes beside the kills and is none of them. Each
once the run has got to a checkpoint of its own, which must be further than those before: it went on, and did not begin
again.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Any

import psycopg

from chaos.fault import kill_training
from chaos.ground import ground
from chaos.lesson import make_lesson
from chaos.patience import came
from chaos.plant import Plant, Post, Size
from chaos.point import OF_CHECKPOINT, Fate, Point
from chaos.record import Record
from cli.client import Client, Job

_STEPS_EACH = 30  # more than a run does between two kills
_GLANCE_SECONDS = 0.05
_PATIENCE_SECONDS = 180.0
_TOLD_EVERY = 20


def main(given: Sequence[str] | None = None) -> None:
    """Train twice, once in peace; exit code 0 where the weights are the same, bit by bit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kill -9s")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", type=Path, help="write the result to this page")
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    ways = draw_ways(asked.kills, Random(seed))
    record = Record(f"python -m chaos.training --kills {asked.kills}", seed=seed)
    record.say(f"to come: {asked.kills} times kill -9, {len(ways) - asked.kills} times SIGTERM")
    with (
        ground() as folder,
        Plant(folder, size=Size(generation=1, training=1, api=1, upkeep=1)) as plant,
    ):
        client = Client(plant.apis[0], plant.key)
        request = make_lesson(client, steps=len(ways) * _STEPS_EACH)
        undisturbed = client.finish(client.fine_tune(request))
        print("trained in peace", flush=True)
        job = client.fine_tune(request)
        happened, began_again = harm(plant, job, ways=ways, random=Random(seed))
        done = client.finish(job)
        for how, count in sorted(happened.items()):
            record.say(f"{how}: {count}")
        same = _weights(client, done) == _weights(client, undisturbed)
        with plant.connect() as connection:
            [(epochs, adapters)] = connection.execute(
                "SELECT claim_epoch, (SELECT count(*) FROM adapter WHERE job_id = job.id) FROM job WHERE id = %s",
                [job["id"]],
            ).fetchall()
    record.say(f"{epochs} runs, {adapters} adapter; {began_again} of the runs began again, and did not go on")
    record.say(f"the weights are {'the same, bit by bit' if same else 'NOT the same'}")
    is_fine = same and adapters == 1 and happened == Counter(ways) and began_again == 0
    record.keep(asked.out, is_fine=is_fine)
    sys.exit(0 if is_fine else 1)


def draw_ways(kills: int, random: Random) -> list[str]:
    """How each run is to end, in any order, until that are so many kill -9s."""
    ways = list[str]()
    while len(ways) - ways.count(_SIGTERM) < kills:
        ways.append(random.choice(list(_WAYS)))
    return ways


def harm(plant: Plant, job: Job, *, ways: Sequence[str], random: Random) -> tuple[Counter[str], int]:
    """End one run after the other, each after a checkpoint of its own: how many in which way, how many began again."""
    happened: Counter[str] = Counter()
    epoch = began_again = furthest = 0
    with plant.connect() as connection:
        for how in ways:
            run = _await_checkpoint(connection, job, after=epoch)
            if run is None:
                break  # it is done
            began_again += run.first_step <= max(furthest, run.before)
            epoch, furthest = run.epoch, max(furthest, run.before, run.first_step)
            _WAYS[how](plant, random)
            happened[how] += 1
            if happened.total() % _TOLD_EVERY == 0:
                print(f"{happened.total()} of {len(ways)} runs ended, the last at step {furthest}", flush=True)
    return happened, began_again


@dataclass(frozen=True)
class _Run:
    """A run that has a checkpoint: the step of its first, and of the last of those before it, 0 without one."""

    epoch: int
    first_step: int
    before: int


def _await_checkpoint(connection: "psycopg.Connection[Any]", job: Job, *, after: int) -> _Run | None:
    """A later run than that of the claim epoch, once it has a checkpoint; None where the job has ended."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        row = connection.execute(
            "SELECT status, claim_epoch, "
            "(SELECT min(step) FROM checkpoint WHERE job_id = job.id AND claim_epoch = job.claim_epoch), "
            "(SELECT max(step) FROM checkpoint WHERE job_id = job.id AND claim_epoch < job.claim_epoch) "
            "FROM job WHERE id = %s",
            [job["id"]],
        ).fetchone()
        assert row is not None
        status, epoch, first, before = row
        if status not in ("queued", "running"):
            return None
        if status == "running" and epoch > after and first is not None:
            return _Run(epoch, first, before or 0)
        time.sleep(_GLANCE_SECONDS)
    raise TimeoutError("The training does not go on.")


def _post(plant: Plant) -> Post:
    [post] = plant.posts("trainer")
    return post


def _kill_group(plant: Plant, random: Random) -> None:
    time.sleep(random.uniform(0.0, 1.0))
    _post(plant).send(signal.SIGKILL)


def _drain(plant: Plant, random: Random) -> None:
    time.sleep(random.uniform(0.0, 1.0))
    _post(plant).send(signal.SIGTERM)


def _at(point: Point, plant: Plant, _: Random) -> None:
    trap = plant.points.arm(point, Fate.DIE_ALONE)
    if not came(lambda: not trap.is_set, within=_PATIENCE_SECONDS):
        raise TimeoutError(f"No training came to the point '{point}'.")


_SIGTERM = "SIGTERM"
_WAYS: dict[str, Callable[[Plant, Random], None]] = {
    "kill -9 of the worker's group": _kill_group,
    "kill -9 of the training at any instant": kill_training,
    **{f"kill -9 of the training at '{point}'": partial(_at, point) for point in sorted(OF_CHECKPOINT)},
    _SIGTERM: _drain,
}


def _weights(client: Client, job: Job) -> bytes:
    """The tensors of the job's adapter, without the header, which names the run."""
    now = client.job(job["id"])  # its links may have ended since
    output = next(output for output in now["outputs"] if output["type"] == "adapter")
    file = client.download(output["url"])
    return file[8 + int.from_bytes(file[:8], "little") :]


if __name__ == "__main__":
    main()
