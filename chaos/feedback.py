"""Feedback from many writers while things break: `python -m chaos.feedback`. Each threshold reached is one update.

Communities of users rate, each exactly as often as its policy asks for, all at once and in any order, by 50 writers
that send again what got no answer. Meanwhile the API, upkeep, Postgres and Redis are killed, cut and restarted. In the
end there is one update for each community, which counted each of its users once. Nobody trains: an update that is due
must start, and start once, whatever comes of it. One more community goes on talking while its updates are in flight
(`stream`): there is one for each threshold that it reached, and none for the words that are over.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from secrets import randbits
from uuid import UUID

import httpx2 as httpx

from chaos.ground import ground
from chaos.log import said
from chaos.oracle import own_errors
from chaos.patience import came
from chaos.plant import Plant, Size
from chaos.record import Record
from chaos.run import cause, heal
from chaos.schedule import SLICE, plan
from chaos.stream import flow
from chaos.traffic import TRY_SECONDS, until_settled
from cli.client import Client
from core.infra.database import Database
from core.services import api_key as api_keys
from core.services import tenant as tenants

_WRITERS = 50
_PATIENCE_SECONDS = 120.0
_QUIET_SECONDS = 15.0  # upkeep looks at the policies many times meanwhile
_STREAM_THRESHOLDS = 8
_KINDS = ("API", "upkeep", "Postgres", "Redis")


@dataclass(frozen=True)
class Community:
    """A tenant with a picture that its users rate."""

    tenant_id: UUID
    key: str
    image_id: str


def main(given: Sequence[str] | None = None) -> None:
    """Found the communities, let them rate, count; exit code 0 where the count is exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="of feedback")
    parser.add_argument("--threshold", type=int, default=100, help="new labels that start an update")
    parser.add_argument("--seconds", type=float, default=120.0, help="over which the faults are spread")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", type=Path, help="write the result to this page")
    asked = parser.parse_args(given)
    seed = asked.seed if asked.seed is not None else randbits(32)
    expected, over = asked.rows // asked.threshold, asked.threshold // 2
    record = Record(f"python -m chaos.feedback --rows {asked.rows} --threshold {asked.threshold}", seed=seed)
    record.say(f"{asked.rows} rows, {expected} thresholds")
    with ground() as folder, Plant(folder, size=Size(generation=1, training=0, api=2, upkeep=2)) as plant:
        communities = [found(plant, number, threshold=asked.threshold) for number in range(expected)]
        talkers = found(plant, expected, threshold=asked.threshold)
        words = [(community, user) for community in communities for user in range(asked.threshold)]
        Random(seed).shuffle(words)
        counts = {name: count for name, count in SLICE.items() if name.partition(":")[0] in _KINDS}
        with ThreadPoolExecutor(2) as others, ThreadPoolExecutor(_WRITERS) as writers:
            happening = others.submit(cause, plant, plan(counts, seconds=asked.seconds, seed=seed))
            stream = others.submit(
                flow,
                plant,
                key=talkers.key,
                tenant_id=talkers.tenant_id,
                say=partial(_say, plant, talkers),
                thresholds=_STREAM_THRESHOLDS,
                threshold=asked.threshold,
                over=over,
            )
            for each in [writers.submit(_say, plant, community, user) for community, user in words]:
                each.result()
            stream.result()
            happened = happening.result()
        heal(plant)
        expected += _STREAM_THRESHOLDS
        updates, exact, uncounted = count(plant, expected=expected, threshold=asked.threshold)
        errors = list(own_errors(plant.journal.entries(), said(folder / "logs", by="api-*")))
    record.say(f"{sum(happened.values())} of {sum(counts.values())} faults; {updates} of {expected} updates")
    record.say(f"{exact} of them counted each of {asked.threshold} users once; {uncounted} of {over} words are over")
    for error in errors:
        record.say(f"500: {error.how}")
    is_exact = updates == exact == expected and uncounted == over
    is_fine = is_exact and happened == counts and not errors
    record.keep(asked.out, is_fine=is_fine)
    sys.exit(0 if is_fine else 1)


def found(plant: Plant, number: int, *, threshold: int) -> Community:
    """A tenant of its own, a picture, and a policy that waits for so many labels and for nothing else."""
    with closing(Database(plant.direct.database_url, pool_size=1)) as database, database.transaction() as session:
        tenant_id = tenants.create_tenant(session, name=f"community-{number}").id
        key = api_keys.create(session, tenant_id=tenant_id, name="chaos")
    with closing(Client(plant.apis[0], key)) as client:
        [model] = client.models()
        few = {
            "min_new_labels": threshold,
            "many_new_labels": threshold,
            "min_users": 1,
            "min_likes": 1,
            "cooldown_hours": 0,
        }
        client.set_policy(model["id"], few)
        job = client.finish(client.generate({"prompt": "a star", "steps": 1}))
    return Community(tenant_id, key, job["outputs"][0]["id"])


def _say(plant: Plant, community: Community, user: int) -> None:
    """Say it until it was heard. Said twice it is the same word: the latest of a user counts."""
    word = {"kind": "thumb", "image_id": community.image_id, "liked": True, "user_ref": f"user-{user}"}
    headers = {"Authorization": f"Bearer {community.key}"}
    answer = until_settled(
        lambda api: httpx.post(f"{api}/api/feedback", json=word, headers=headers, timeout=TRY_SECONDS, trust_env=False),
        plant.apis,
        Random(user),
        note=plant.journal.write,
    )
    if answer is None:
        raise TimeoutError("Feedback was not taken.")
    if not answer.is_success:
        raise AssertionError(f"{answer.status_code}: {answer.text}")


def count(plant: Plant, *, expected: int, threshold: int) -> tuple[int, int, int]:
    """Updates in all, those that counted each of a threshold of users once, and words that none counted.

    A word that was sent again, for its answer was lost, stands for the one before. Waits until no update can be
    missing, and then for one that should not come.
    """
    came(lambda: _count(plant, threshold)[0] >= expected, within=_PATIENCE_SECONDS)
    time.sleep(_QUIET_SECONDS)
    return _count(plant, threshold)


def _count(plant: Plant, threshold: int) -> tuple[int, int, int]:
    query = """
        SELECT count(DISTINCT model_update_id), count(DISTINCT model_update_id) FILTER (WHERE users = %s AND rows = %s),
          (SELECT count(*) FROM user_feedback WHERE counted_in_update_id IS NULL AND superseded_at IS NULL)
        FROM (
          SELECT u.id AS model_update_id, count(f.id) AS rows, count(DISTINCT f.user_ref) AS users
          FROM model_update u LEFT JOIN user_feedback f ON f.counted_in_update_id = u.id AND f.superseded_at IS NULL
          GROUP BY u.id
        ) AS counted
    """
    with plant.connect() as connection:
        [row] = connection.execute(query, [threshold, threshold]).fetchall()
    updates, exact, uncounted = (int(str(number)) for number in row)
    return updates, exact, uncounted


if __name__ == "__main__":
    main()
