"""Everything that happens to the system, by name: one function each, which returns once it is over.

Each decides by the random numbers that it is given, so a seed tells what happens to whom.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from uuid import UUID

import httpx2 as httpx
from redis import Redis

from chaos.plant import LEASE_SECONDS, Plant
from chaos.point import OF_GENERATION, OF_TRAINING, Fate, Point
from chaos.poison import HANG, SEGFAULT
from chaos.relay import NONE, Trouble
from chaos.traffic import TRY_SECONDS, until_settled
from core.domain.job import JobKind
from core.domain.message import QUEUE_NAME
from core.infra.task_queue import encode_doorbell

Fault = Callable[[Plant, Random], None]


class Missed(Exception):
    """Nobody came by to whom it could have happened."""


_POINT_PATIENCE_SECONDS = 20.0
_DRAIN_SECONDS = 30.0
_DOORBELLS = 50
_GLANCE_SECONDS = 0.05
_UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def kill(kind: str, plant: Plant, random: Random) -> None:
    """Kill -9 a process group."""
    with plant.one_of(kind, random) as post:
        post.send(signal.SIGKILL)


def freeze(kind: str, plant: Plant, random: Random) -> None:
    """Stop a process group for longer than its leases last, then let it go on: a zombie."""
    with plant.one_of(kind, random) as post:
        post.send(signal.SIGSTOP)
        time.sleep(LEASE_SECONDS * random.uniform(1.3, 2.0))
        post.send(signal.SIGCONT)


def drain(kind: str, plant: Plant, random: Random) -> None:
    """SIGTERM a worker and wait until it has gone; it is given no work that it does not finish."""
    with plant.one_of(kind, random) as post:
        pid = post.pid
        post.send(signal.SIGTERM)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while post.pid == pid and post.is_alive and time.monotonic() < deadline:
            time.sleep(_GLANCE_SECONDS)


def at_point(point: Point, fate: Fate, plant: Plant, _: Random) -> None:
    """Let one worker that passes a point meet its fate; one that froze is thawed as a zombie.

    Raises:
        Missed: none passed it, or what froze was ended by something else.
    """
    trap = plant.points.arm(point, fate)
    deadline = time.monotonic() + _POINT_PATIENCE_SECONDS
    while trap.is_set and time.monotonic() < deadline:
        time.sleep(_GLANCE_SECONDS)
    if trap.lift():
        raise Missed
    if fate is Fate.FREEZE:
        _thaw(plant, trap.victim)


def _thaw(plant: Plant, group: int) -> None:
    """Let a frozen worker go on once its leases have run out; nothing else harms it, or wakes it, until then."""
    post = next((post for post in plant.posts("worker") if post.pid == group), None)
    if post is None:
        raise Missed
    with post.lock:
        if post.pid != group:
            raise Missed
        time.sleep(LEASE_SECONDS * 1.5)
        post.send(signal.SIGCONT)


@contextmanager
def _trouble(plant: Plant, name: str, trouble: Trouble) -> Iterator[None]:
    with plant.locks[name]:
        plant.relays[name].suffer(trouble)
        try:
            yield
        finally:
            plant.relays[name].suffer(NONE)


def trouble(name: str, trouble: Trouble, seconds: tuple[float, float], plant: Plant, random: Random) -> None:
    """Put a relay into trouble for a while."""
    with _trouble(plant, name, trouble):
        time.sleep(random.uniform(*seconds))


def cut_mid_way(name: str, plant: Plant, random: Random) -> None:
    """Cut a connection somewhere in what its client sends."""
    plant.relays[name].cut_after(random.randrange(1, 20_000))


def cut_at_commit(plant: Plant, _: Random) -> None:
    """Cut a connection once COMMIT was passed on: whether it happened is unknown to who asked for it."""
    plant.relays["postgres"].cut_at(b"COMMIT")


def restart(name: str, number: signal.Signals, plant: Plant, random: Random) -> None:
    """End a server by a signal, and start it again after a moment."""
    with plant.locks[name]:
        plant.kill_server(name, number)
        time.sleep(random.uniform(0.0, 1.0))
        plant.start_server(name)


def lose_queue(plant: Plant, random: Random) -> None:
    """Kill Redis and lose its file, so that it starts empty."""
    with plant.locks["valkey"]:
        plant.kill_server("valkey", signal.SIGKILL)
        shutil.rmtree(plant.data / "valkey" / "appendonlydir", ignore_errors=True)
        time.sleep(random.uniform(0.0, 1.0))
        plant.start_server("valkey")


def _to_queue(plant: Plant, say: Callable[[Redis], object]) -> None:
    """Say something to Redis past the relay."""
    with plant.locks["valkey"], Redis.from_url(plant.direct.redis_url) as redis:
        say(redis)


def wipe_queue(plant: Plant, _: Random) -> None:
    """FLUSHALL."""
    _to_queue(plant, lambda redis: redis.flushall())


def pause_queue(plant: Plant, random: Random) -> None:
    """CLIENT PAUSE: Redis takes everything, and answers later."""
    _to_queue(plant, lambda redis: redis.client_pause(random.randrange(1000, 4000)))


def forge_doorbells(plant: Plant, random: Random) -> None:
    """Ring for jobs that are not there, for jobs that have ended, again and again, and with words of no meaning."""
    with plant.locks["postgres"], plant.connect() as connection:
        known = [UUID(str(row[0])) for row in connection.execute("SELECT id FROM job ORDER BY random() LIMIT 20")]

    def ring(redis: Redis) -> None:
        for _ in range(_DOORBELLS):
            kind = random.choice(list(JobKind))
            job_id = random.choice([UUID(int=random.getrandbits(128), version=4), *known])
            redis.lpush(QUEUE_NAME[kind], encode_doorbell(kind, job_id))

    _to_queue(plant, ring)


def end_connections(plant: Plant, _: Random) -> None:
    """Postgres ends every connection of ours."""
    with plant.locks["postgres"], plant.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'lorikeet' AND pid <> pg_backend_pid()"
        )


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
    "training worker: kill -9": partial(kill, "trainer"),
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
    "training: disk full at a checkpoint": partial(at_point, Point.BEFORE_CHECKPOINT, Fate.DISK_FULL),
    "Redis: kill -9": partial(restart, "valkey", signal.SIGKILL),
    "Redis: kill -9, and its file is lost": lose_queue,
    "Redis: FLUSHALL": wipe_queue,
    "Redis: CLIENT PAUSE": pause_queue,
    "Redis: away": partial(trouble, "valkey", Trouble(refuses=True), (2.0, 8.0)),
    "Redis: silent": partial(trouble, "valkey", Trouble(is_silent=True), (1.0, 4.0)),
    "Redis: forged and doubled doorbells": forge_doorbells,
    "Postgres: immediate restart": partial(restart, "postgres", signal.SIGQUIT),
    "Postgres: fast restart": partial(restart, "postgres", signal.SIGINT),
    "Postgres: all connections ended": end_connections,
    "Postgres: cut at COMMIT": cut_at_commit,
    "Postgres: cut mid-way": partial(cut_mid_way, "postgres"),
    "Postgres: silent": partial(trouble, "postgres", Trouble(is_silent=True), (0.5, 3.0)),
    "Postgres: slow": partial(trouble, "postgres", Trouble(delay_seconds=0.05), (2.0, 4.0)),
    "S3: away": partial(trouble, "s3", Trouble(refuses=True), (1.0, 5.0)),
    "S3: answers 503": partial(trouble, "s3", Trouble(answer=_UNAVAILABLE), (1.0, 5.0)),
    "S3: slow": partial(trouble, "s3", Trouble(delay_seconds=0.1), (2.0, 4.0)),
    "S3: cut mid-upload": partial(cut_mid_way, "s3"),
}
