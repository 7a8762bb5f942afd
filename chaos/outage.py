"""What happens to Postgres, Redis and S3: each function returns once it is over."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from redis import Redis

from chaos.cut import Cut, after, at, within_upload
from chaos.patience import Missed, came
from chaos.plant import Plant
from chaos.relay import NONE, Trouble

_PATIENCE_SECONDS = 30.0


@contextmanager
def _trouble(plant: Plant, name: str, trouble: Trouble) -> Iterator[None]:
    with plant.locks[name]:
        plant.relays[name].suffer(trouble)
        try:
            yield
        finally:
            plant.relays[name].suffer(NONE)


def trouble(name: str, trouble: Trouble, seconds: tuple[float, float], plant: Plant, random: Random) -> None:
    """Put a relay into trouble for a while.

    Raises:
        Missed: nobody had anything to do with its server meanwhile.
    """
    with _trouble(plant, name, trouble):
        time.sleep(random.uniform(*seconds))
    if not plant.relays[name].was_met:
        raise Missed


def _cut(plant: Plant, name: str, cut: Cut) -> None:
    """Wait until somebody has met it.

    Raises:
        Missed: nobody did; then nobody does any more.
    """
    relay = plant.relays[name]
    relay.arm(cut)
    came(lambda: not relay.awaits(cut), within=_PATIENCE_SECONDS)
    if relay.lift(cut):
        raise Missed


def cut_mid_way(plant: Plant, random: Random) -> None:
    """Cut a connection to Postgres somewhere in what its client sends."""
    _cut(plant, "postgres", after(random.randrange(1, 20_000)))


def cut_at_commit(plant: Plant, _: Random) -> None:
    """Cut a connection once COMMIT was passed on: whether it happened is unknown to who asked for it."""
    _cut(plant, "postgres", at(b"COMMIT"))


def cut_upload(plant: Plant, random: Random) -> None:
    """Cut a connection to S3 somewhere within a file that its client stores."""
    _cut(plant, "s3", within_upload(random.random()))


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


def to_queue(plant: Plant, say: Callable[[Redis], object]) -> None:
    """Say something to Redis past the relay."""
    with plant.locks["valkey"], Redis.from_url(plant.direct.redis_url) as redis:
        say(redis)


def wipe_queue(plant: Plant, _: Random) -> None:
    """FLUSHALL."""
    to_queue(plant, lambda redis: redis.flushall())


def pause_queue(plant: Plant, random: Random) -> None:
    """CLIENT PAUSE: Redis takes everything, and answers later."""
    to_queue(plant, lambda redis: redis.client_pause(random.randrange(1000, 4000)))


def refuse_writes(plant: Plant, random: Random) -> None:
    """Redis answers, and writes nothing for some seconds: it misses a replica, as it could miss space on its disk."""

    def refuse(redis: Redis) -> None:
        redis.config_set("min-replicas-to-write", 1)
        try:
            time.sleep(random.uniform(2.0, 8.0))
        finally:
            redis.config_set("min-replicas-to-write", 0)

    to_queue(plant, refuse)


def end_connections(plant: Plant, _: Random) -> None:
    """Postgres ends every connection of ours.

    Raises:
        Missed: there was none.
    """
    with plant.locks["postgres"], plant.connect() as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'lorikeet' AND pid <> pg_backend_pid()"
        )
        if not ended.rowcount:
            raise Missed
