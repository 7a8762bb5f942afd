"""One training, killed again and again: `python -m chaos.training`. Its weights must be those of an undisturbed one.

Kills come at random instants, at the named points of a checkpoint, of the training's own process and of its worker's
whole group, and as SIGTERM; each once the run before has got to a checkpoint of its own.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from secrets import randbits
from typing import Any

import psycopg

from chaos.ground import ground
from chaos.lesson import make_lesson
from chaos.plant import Plant, Post, Size
from chaos.point import OF_TRAINING, Fate, Point
from cli.client import Client, Job

_STEPS_EACH = 30  # more than a run does between two kills
_GLANCE_SECONDS = 0.05
_PATIENCE_SECONDS = 180.0


def main(given: Sequence[str] | None = None) -> None:
    """Train twice, once in peace; exit code 0 where the weights are the same, bit by bit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    print(f"{asked.kills} kills; --seed {seed}", flush=True)
    with (
        ground() as folder,
        Plant(folder, size=Size(generation=1, training=1, api=1, upkeep=1)) as plant,
    ):
        client = Client(plant.apis[0], plant.key)
        request = make_lesson(client, steps=asked.kills * _STEPS_EACH)
        undisturbed = client.finish(client.fine_tune(request))
        job = client.fine_tune(request)
        happened = harm(plant, job, kills=asked.kills, random=Random(seed))
        done = client.finish(job)
        print("\n".join(f"{count:>5}  {how}" for how, count in sorted(happened.items())), flush=True)
        same = _weights(client, done) == _weights(client, undisturbed)
        with plant.connect() as connection:
            [(epochs, adapters)] = connection.execute(
                "SELECT claim_epoch, (SELECT count(*) FROM adapter WHERE job_id = job.id) FROM job WHERE id = %s",
                [job["id"]],
            ).fetchall()
    print(f"{epochs} runs, {adapters} adapter; the weights are {'the same, bit by bit' if same else 'NOT the same'}")
    sys.exit(0 if same and adapters == 1 and sum(happened.values()) == asked.kills else 1)


def harm(plant: Plant, job: Job, *, kills: int, random: Random) -> Counter[str]:
    """Kill so many runs, each after a checkpoint that it made itself; how many in which way."""
    happened: Counter[str] = Counter()
    killed = 0
    with plant.connect() as connection:
        for _ in range(kills):
            epoch = _await_checkpoint(connection, job, after=killed)
            if epoch is None:
                break  # it is done
            how, do = random.choice(_WAYS)
            do(plant, random)
            happened[how] += 1
            killed = epoch
    return happened


def _await_checkpoint(connection: "psycopg.Connection[Any]", job: Job, *, after: int) -> int | None:
    """The claim epoch of a later run that holds the job now, once it has a checkpoint; None where the job has ended."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        row = connection.execute(
            "SELECT status, claim_epoch, "
            "EXISTS (SELECT FROM checkpoint WHERE job_id = job.id AND claim_epoch = job.claim_epoch) "
            "FROM job WHERE id = %s",
            [job["id"]],
        ).fetchone()
        assert row is not None
        status, epoch, has_one = row
        if status not in ("queued", "running"):
            return None
        if status == "running" and epoch > after and has_one:
            return int(epoch)
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
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while trap.is_set:
        if time.monotonic() > deadline:
            raise TimeoutError(f"No training came to the point '{point}'.")
        time.sleep(_GLANCE_SECONDS)


_WAYS: list[tuple[str, Callable[[Plant, Random], None]]] = [
    ("kill -9 of the worker's group", _kill_group),
    ("SIGTERM", _drain),
    *((f"kill -9 of the training at '{point}'", partial(_at, point)) for point in sorted(OF_TRAINING)),
]


def _weights(client: Client, job: Job) -> bytes:
    """The tensors of the job's adapter, without the header, which names the run."""
    now = client.job(job["id"])  # its links may have ended since
    output = next(output for output in now["outputs"] if output["type"] == "adapter")
    file = client.download(output["url"])
    return file[8 + int.from_bytes(file[:8], "little") :]


if __name__ == "__main__":
    main()
