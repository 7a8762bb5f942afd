"""When what happens: a seed and how often each fault is to come give the same schedule every time."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

SLICE: dict[str, int] = {
    "generation worker: kill -9": 30,
    "generation worker: SIGSTOP for longer than its lease": 6,
    "generation worker: SIGTERM": 6,
    "a picture that segfaults its worker": 1,
    "a picture that hangs its worker": 1,
    "a picture whose worker the kernel kills for its memory": 1,
    "a picture that the device has no memory for": 2,
    "training worker: kill -9": 1,
    "training worker: SIGSTOP for longer than its lease": 1,
    "training worker: SIGTERM": 1,
    "API: kill -9": 6,
    "upkeep: kill -9": 4,
    "generation worker: kill -9 at 'before the claim'": 2,
    "generation worker: kill -9 at 'claimed'": 2,
    "generation worker: kill -9 at 'before a put'": 2,
    "generation worker: kill -9 at 'after a put'": 2,
    "generation worker: kill -9 at 'before the commit'": 2,
    "generation worker: kill -9 at 'commit sent'": 2,
    "generation worker: kill -9 at 'commit acknowledged'": 2,
    "generation worker: zombie at 'before a put'": 2,
    "generation worker: zombie at 'after a put'": 3,
    "training: kill -9 at 'before a checkpoint'": 1,
    "training: kill -9 at 'checkpoint half written'": 1,
    "training: kill -9 at 'checkpoint renamed'": 1,
    "training: kill -9 at 'before a checkpoint's manifest'": 1,
    "training: kill -9 at 'checkpoint uploaded'": 1,
    "training: kill -9 at 'checkpoint recorded'": 1,
    "training: kill -9 at 'before its put'": 1,
    "training: kill -9 at 'after its put'": 1,
    "training: kill -9 at 'before its commit'": 1,
    "training: kill -9 at 'its commit sent'": 1,
    "training: kill -9 at 'its commit acknowledged'": 1,
    "training: kill -9 of its process": 1,
    "training: disk full at a checkpoint": 1,
    "Redis: kill -9": 5,
    "Redis: kill -9, and its file is lost": 3,
    "Redis: FLUSHALL": 8,
    "Redis: CLIENT PAUSE": 2,
    "Redis: away": 2,
    "Redis: away for 20 s": 1,
    "Redis: silent": 1,
    "Redis: refuses writes": 2,
    "Redis: forged and doubled doorbells": 6,
    "Redis: doorbells of no meaning": 2,
    "Redis: doorbells that nobody can read": 1,
    "Postgres: immediate restart": 6,
    "Postgres: fast restart": 2,
    "Postgres: all connections ended": 4,
    "Postgres: cut at COMMIT": 6,
    "Postgres: cut mid-way": 3,
    "Postgres: silent": 1,
    "Postgres: slow": 1,
    "S3: away": 2,
    "S3: silent for longer than a lease": 1,
    "S3: answers 500": 1,
    "S3: answers 502": 1,
    "S3: answers 503": 1,
    "S3: slow": 1,
    "S3: cut mid-upload": 4,
}
"""How often each fault comes in the few minutes that every change is tried for."""

FULL: dict[str, int] = {
    **dict.fromkeys(SLICE, 20),
    "generation worker: kill -9": 1000,
    "generation worker: SIGSTOP for longer than its lease": 150,
    "generation worker: zombie at 'before a put'": 75,
    "generation worker: zombie at 'after a put'": 75,
    "generation worker: SIGTERM": 200,
    "API: kill -9": 100,
    "upkeep: kill -9": 100,
    **{name: 50 for name in SLICE if "kill -9 at" in name},
    "training: kill -9 of its process": 50,
    "Redis: kill -9": 100,
    "Redis: kill -9, and its file is lost": 30,
    "Redis: FLUSHALL": 70,
    "Redis: away for 20 s": 5,
    "Redis: away for a minute": 5,
    "Redis: away for minutes": 2,
    "Redis: forged and doubled doorbells": 200,
    "Postgres: immediate restart": 100,
    "Postgres: cut at COMMIT": 100,
}
"""How often each fault comes before a release."""

LEAST_JOBS, LEAST_CANCELS = 5_000, 1_000
"""So many jobs have to be accepted meanwhile, and so many of them cancelled while they are open."""


@dataclass(frozen=True)
class Due:
    """A fault to come: after so many seconds, deciding by random numbers of its own."""

    at_seconds: float
    fault: str
    seed: int


def plan(counts: Mapping[str, int], *, seconds: float, seed: int) -> list[Due]:
    """Every fault as often as `counts` say, in any order, at any time within the `seconds`."""
    random = Random(seed)
    names = [name for name, count in sorted(counts.items()) for _ in range(count)]
    random.shuffle(names)
    times = sorted(random.uniform(0.0, seconds) for _ in names)
    return [Due(at, name, random.getrandbits(32)) for at, name in zip(times, names, strict=True)]
