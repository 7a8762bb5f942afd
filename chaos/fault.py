"""Everything that happens to the system, by name: one function each, which returns once it is over.

Each decides by the random numbers that it is given, so a seed tells what happens to whom. What happens to our own
processes is here, what happens to those that they stand on is in `outage` and `doorbell`.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from random import Random

import httpx2 as httpx

from chaos.doorbell import forge, garble, strange, unreadable
from chaos.log import has_said
from chaos.mutation import Part
from chaos.outage import (
    cut_at_commit,
    cut_mid_way,
    cut_upload,
    end_connections,
    lose_queue,
    pause_queue,
    refuse_writes,
    restart,
    trouble,
    wipe_queue,
)
from chaos.patience import Missed, came
from chaos.plant import LEASE_SECONDS, Plant, Post
from chaos.point import OF_GENERATION, OF_TRAINING, Fate, Point
from chaos.poison import GREED, HANG, HUNGER, SEGFAULT
from chaos.relay import Trouble
from chaos.traffic import TRY_SECONDS, until_settled

Fault = Callable[[Plant, Random], None]

_POINT_PATIENCE_SECONDS = 30.0
_DRAIN_SECONDS = 30.0
_REFUSAL_SECONDS = 10.0
_ERROR = "HTTP/1.1 {} Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def kill(kind: str, plant: Plant, random: Random) -> None:
    """Kill -9 a process group.

    Raises:
        Missed: it was dead already.
    """
    with _living(kind, plant, random) as post:
        post.send(signal.SIGKILL)


@contextmanager
def _living(kind: str, plant: Plant, random: Random) -> Iterator[Post]:
    with plant.one_of(kind, random) as post:
        if not came(lambda: post.is_alive, within=_POINT_PATIENCE_SECONDS):
            raise Missed
        yield post


def freeze(kind: str, plant: Plant, random: Random) -> None:
    """Stop a worker's process group at work for longer than its leases last, then let it go on: a zombie.

    Raises:
        Missed: it had no work, or did not come back as a zombie.
    """
    with plant.one_of(kind, random) as post:
        if not came(partial(_has_stopped_at_work, plant, post), within=_POINT_PATIENCE_SECONDS):
            raise Missed
        _let_lose(plant, post, post.pid, seconds=LEASE_SECONDS * random.uniform(1.3, 2.0))


def _has_stopped_at_work(plant: Plant, post: Post) -> bool:
    post.send(signal.SIGSTOP)
    if post.pid in _groups_at_work(plant):
        return True
    post.send(signal.SIGCONT)
    return False


def _groups_at_work(plant: Plant) -> set[int]:
    """The process groups that hold a job."""
    with plant.locks["postgres"], plant.connect() as connection:
        rows = connection.execute("SELECT worker_id FROM job WHERE status = 'running'").fetchall()
    groups = set()
    for part in ":".join(str(worker_id) for (worker_id,) in rows).split(":"):
        if part.isdecimal():
            with suppress(ProcessLookupError):
                groups.add(os.getpgid(int(part)))
    return groups


def _let_lose(plant: Plant, post: Post, group: int, *, seconds: float) -> None:
    """Let a frozen worker go on once its leases have run out, and wait until it learns that its job is another's.

    Where the fence was left out nothing tells it so.

    Raises:
        Missed: it was ended by something else, or its job was still its own.
    """
    log = plant.log_of(post)
    before = log.stat().st_size
    time.sleep(seconds)
    if post.pid != group or not post.is_alive:
        raise Missed
    post.send(signal.SIGCONT)
    if plant.without is Part.FENCE:
        return
    if not came(partial(has_said, log, "ownership_lost", after=before), within=_REFUSAL_SECONDS):
        raise Missed


def drain(kind: str, plant: Plant, random: Random) -> None:
    """SIGTERM a worker and wait until it has gone; it is given no work that it does not finish.

    Raises:
        Missed: it was dead already, or did not go.
    """
    with _living(kind, plant, random) as post:
        pid = post.pid
        post.send(signal.SIGTERM)
        if not came(lambda: post.pid != pid or not post.is_alive, within=_DRAIN_SECONDS):
            raise Missed


def at_point(point: Point, fate: Fate, plant: Plant, _: Random) -> None:
    """Let one worker that passes a point meet its fate; one that froze is thawed as a zombie.

    Raises:
        Missed: none passed it, or what froze did not come back as a zombie.
    """
    trap = plant.points.arm(point, fate)
    came(lambda: not trap.is_set, within=_POINT_PATIENCE_SECONDS)
    if trap.lift():
        raise Missed
    if fate is Fate.FREEZE:
        _thaw(plant, trap.victim)


def _thaw(plant: Plant, group: int) -> None:
    """Nothing else harms it, or wakes it, until it has learnt that it is one."""
    post = next((post for post in plant.posts("worker") if post.pid == group), None)
    if post is None:
        raise Missed
    with post.lock:
        _let_lose(plant, post, group, seconds=LEASE_SECONDS * 1.5)


def kill_training(plant: Plant, random: Random) -> None:
    """Kill -9 the process of a training alone, at some step of its work; the worker that it belongs to lives on.

    Raises:
        Missed: none was at work.
    """
    time.sleep(random.uniform(0.0, 2.0))
    if not came(partial(_has_killed_training, plant), within=_POINT_PATIENCE_SECONDS):
        raise Missed


def _has_killed_training(plant: Plant) -> bool:
    pid = _training_at_work(plant)
    try:
        if not pid or os.getpgid(pid) not in [post.pid for post in plant.posts("trainer")]:
            return False
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _training_at_work(plant: Plant) -> int | None:
    """The process of a training that has taken a step since it was claimed."""
    with plant.locks["postgres"], plant.connect() as connection:
        row = connection.execute(
            "SELECT worker_id FROM job WHERE kind = 'training' AND status = 'running' "
            "AND progress_step > 0 AND progress_at > claimed_at"
        ).fetchone()
    return int(str(row[0]).rpartition(":")[2]) if row else None


def poison(prompt: str, plant: Plant, random: Random) -> None:
    """Submit a picture that kills, or hangs, whatever draws it.

    Raises:
        Missed: it was not taken.
    """
    key = f"{random.getrandbits(128):x}"
    headers = {"Authorization": f"Bearer {plant.key}", "Idempotency-Key": key}
    body = {"prompt": prompt}
    answer = until_settled(
        lambda api: httpx.post(f"{api}/api/generate", json=body, headers=headers, timeout=TRY_SECONDS, trust_env=False),
        plant.apis,
        random,
        note=plant.journal.write,
    )
    if answer is None or not answer.is_success:
        raise Missed
    plant.journal.write(event="accepted", job_id=answer.json()["id"], key=key)


FAULTS: dict[str, Fault] = {
    "generation worker: kill -9": partial(kill, "worker"),
    "generation worker: SIGSTOP for longer than its lease": partial(freeze, "worker"),
    "generation worker: SIGTERM": partial(drain, "worker"),
    "a picture that segfaults its worker": partial(poison, SEGFAULT),
    "a picture that hangs its worker": partial(poison, HANG),
    "a picture whose worker the kernel kills for its memory": partial(poison, HUNGER),
    "a picture that the device has no memory for": partial(poison, GREED),
    "training worker: kill -9": partial(kill, "trainer"),
    "training worker: SIGSTOP for longer than its lease": partial(freeze, "trainer"),
    "training worker: SIGTERM": partial(drain, "trainer"),
    "API: kill -9": partial(kill, "api"),
    "upkeep: kill -9": partial(kill, "upkeep"),
    **{
        f"generation worker: kill -9 at '{point}'": partial(at_point, point, Fate.DIE)
        for point in sorted(OF_GENERATION)
    },
    "generation worker: zombie at 'before a put'": partial(at_point, Point.BEFORE_PUT, Fate.FREEZE),
    "generation worker: zombie at 'after a put'": partial(at_point, Point.AFTER_PUT, Fate.FREEZE),
    **{f"training: kill -9 at '{point}'": partial(at_point, point, Fate.DIE_ALONE) for point in sorted(OF_TRAINING)},
    "training: kill -9 of its process": kill_training,
    "training: disk full at a checkpoint": partial(at_point, Point.CHECKPOINT_HALF_WRITTEN, Fate.DISK_FULL),
    "Redis: kill -9": partial(restart, "valkey", signal.SIGKILL),
    "Redis: kill -9, and its file is lost": lose_queue,
    "Redis: FLUSHALL": wipe_queue,
    "Redis: CLIENT PAUSE": pause_queue,
    "Redis: away": partial(trouble, "valkey", Trouble(refuses=True), (2.0, 8.0)),
    "Redis: away for 20 s": partial(trouble, "valkey", Trouble(refuses=True), (20.0, 25.0)),
    "Redis: away for a minute": partial(trouble, "valkey", Trouble(refuses=True), (60.0, 75.0)),
    "Redis: away for minutes": partial(trouble, "valkey", Trouble(refuses=True), (150.0, 180.0)),
    "Redis: silent": partial(trouble, "valkey", Trouble(is_silent=True), (1.0, 4.0)),
    "Redis: refuses writes": refuse_writes,
    "Redis: forged and doubled doorbells": forge,
    "Redis: doorbells of no meaning": partial(garble, strange),
    "Redis: doorbells that nobody can read": partial(garble, unreadable),
    "Postgres: immediate restart": partial(restart, "postgres", signal.SIGQUIT),
    "Postgres: fast restart": partial(restart, "postgres", signal.SIGINT),
    "Postgres: all connections ended": end_connections,
    "Postgres: cut at COMMIT": cut_at_commit,
    "Postgres: cut mid-way": cut_mid_way,
    "Postgres: silent": partial(trouble, "postgres", Trouble(is_silent=True), (0.5, 3.0)),
    "Postgres: slow": partial(trouble, "postgres", Trouble(delay_seconds=0.05), (2.0, 4.0)),
    "S3: away": partial(trouble, "s3", Trouble(refuses=True), (1.0, 5.0)),
    "S3: silent for longer than a lease": partial(
        trouble, "s3", Trouble(is_silent=True), (LEASE_SECONDS * 1.3, LEASE_SECONDS * 2.5)
    ),
    **{
        f"S3: answers {status}": partial(trouble, "s3", Trouble(answer=_ERROR.format(status).encode()), (1.0, 5.0))
        for status in (500, 502, 503)
    },
    "S3: slow": partial(trouble, "s3", Trouble(delay_seconds=0.1), (2.0, 4.0)),
    "S3: cut mid-upload": cut_upload,
}
