"""Whether a Retry-After is true: who was refused waits exactly as long as it was told, and asks again.

It says when the tenant's line has room if nobody else comes, by what jobs are expected to take, in whole seconds,
rounded up. During a flood others do come, and those who have had less go before. So it is true where it was not too
soon: the job is taken at the first try or, after another wait of as long as it was told then, at the second. And where
it was not far too late: no job of the tenant started, which makes the room, before half of the time was over, but for
the second that rounding may add.
"""

import math
import time
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from bench import report
from bench.tenant import Client, Tenant
from core.infra.database import Database

TRUE_TRIES = 2


@dataclass(frozen=True)
class Wait:
    """From a refusal until the job was taken: when it was refused, the seconds that it was told, and the tries since.

    Where it had not been taken when the clock ran out, `tries` are those that failed and one more.
    """

    refused_at: datetime
    told: int
    tries: int


def obey(client: Client, *, until: float) -> list[Wait]:
    """Submit until refused, wait as told and ask again, up to a time of the monotonic clock.

    The last wait counts only if it is known by then whether it was true.
    """
    waits: list[Wait] = []
    first: tuple[datetime, int] | None = None
    failed = 0
    while time.monotonic() < until:
        answer = client.submit()
        if answer.retry_after is None:
            if first is not None:
                waits.append(Wait(*first, tries=failed + 1))
            first, failed = None, 0
            continue
        if first is None:
            first = datetime.now(UTC), answer.retry_after
        else:
            failed += 1
        time.sleep(answer.retry_after)
    if first is not None and failed >= TRUE_TRIES:
        waits.append(Wait(*first, tries=failed + 1))
    return waits


def starts(database: Database, tenant: Tenant) -> list[datetime]:
    """When its jobs started, in order."""
    query = text("SELECT started_at FROM job WHERE tenant_id = :tenant AND started_at IS NOT NULL ORDER BY started_at")
    with database.transaction() as session:
        return list(session.scalars(query, {"tenant": tenant.id}))


def seconds_early(wait: Wait, starts: Sequence[datetime]) -> float:
    """How long before the time that was told there was room; less than 0 where it was after it, or never."""
    later = bisect(starts, wait.refused_at)
    if later == len(starts):
        return -math.inf
    return (wait.refused_at + timedelta(seconds=wait.told) - starts[later]).total_seconds()


def judged(waits: Mapping[Tenant, Sequence[Wait]], started: Mapping[Tenant, Sequence[datetime]]) -> dict[str, Any]:
    """What was told, how long before that there was room, and the share of what was true.

    A share of no waits is 0: what was not seen is not shown.
    """
    every = [(wait, seconds_early(wait, started[tenant])) for tenant, each in waits.items() for wait in each]
    found = [wait.tries <= TRUE_TRIES and early <= wait.told / 2 + 1 for wait, early in every]
    return {
        "retry_after_told_seconds": report.quantiles([float(wait.told) for wait, _ in every]),
        "retry_after_early_seconds": report.quantiles([early for _, early in every if math.isfinite(early)]),
        "retry_after_taken_at_try": {
            str(tries): count for tries, count in sorted(Counter(wait.tries for wait, _ in every).items())
        },
        "retry_after_true": sum(found) / max(1, len(found)),
    }
