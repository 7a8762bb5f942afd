"""Doorbells that nobody of ours has rung: forged ones, doubled ones, and such as mean nothing here."""

import base64
import json
from collections.abc import Callable, Sequence
from random import Random
from uuid import UUID, uuid4

from redis import Redis

from chaos.outage import to_queue
from chaos.plant import Plant
from core.domain.job import JobKind
from core.domain.message import QUEUE_NAME
from core.infra.task_queue import encode_doorbell

FORGED = 50


def forge(plant: Plant, random: Random) -> None:
    """Ring for jobs that are not there, for jobs that wait, for jobs that have ended, again and again."""
    with plant.locks["postgres"], plant.connect() as connection:
        known = [UUID(str(row[0])) for row in connection.execute("SELECT id FROM job ORDER BY random() LIMIT 20")]

    def ring(redis: Redis) -> None:
        for _ in range(FORGED):
            kind = random.choice(list(JobKind))
            job_id = random.choice([UUID(int=random.getrandbits(128), version=4), *known])
            redis.lpush(QUEUE_NAME[kind], encode_doorbell(kind, job_id))

    to_queue(plant, ring)


def garble(messages_of: Callable[[JobKind], Sequence[str | bytes]], plant: Plant, random: Random) -> None:
    """Ring in words that mean nothing here, of each sort once."""
    kind = random.choice(list(JobKind))

    def ring(redis: Redis) -> None:
        for message in messages_of(kind):
            redis.lpush(QUEUE_NAME[kind], message)

    to_queue(plant, ring)


def strange(kind: JobKind) -> list[str]:
    """Messages that are whole: other arguments, a task that nobody has, a pickle."""
    whole = json.loads(encode_doorbell(kind, uuid4()))
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return [
        json.dumps(whole | {"body": _encoded([["too", "many"], {"nobody": 1}, embed])}),
        json.dumps(whole | {"headers": whole["headers"] | {"task": "nobody.knows"}}),
        json.dumps(whole | {"content-type": "application/x-python-serialize"}),
    ]


def unreadable(kind: JobKind) -> list[str | bytes]:
    """No messages at all, or such as Celery can make no task of."""
    whole = json.loads(encode_doorbell(kind, uuid4()))
    parts: dict[str, list[object]] = {
        "body": ["%%%", _encoded("a word"), _encoded(None), _encoded([[], {}]), 7, None],
        "headers": [[], "a word", None, *_changed(whole["headers"], task=[], eta="soon", expires=[], timelimit=1)],
        "properties": [
            *([], "a word", None, {}),
            *_changed(whole["properties"], delivery_tag=[], delivery_info=1, body_encoding=1),
        ],
    }
    return [
        *("no JSON {", "", b"\xff\xfe", "{}", "[1, 2]", "7", "null", "[" * 100_000),
        *(json.dumps(whole | {part: instead}) for part, wrong in parts.items() for instead in wrong),
    ]


def _changed(part: dict[str, object], **changes: object) -> list[dict[str, object]]:
    return [part | {name: value} for name, value in changes.items()]


def _encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()
