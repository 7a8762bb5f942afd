"""Add a job if there is room, and say how it stands: one statement, because every submit runs it.

A job's place in line is its start tag in start-time fair queueing (Goyal, Vin and Cheng, 1996), in seconds of work
by the tenant's share: behind what its tenant has in line already and behind the time that its runs took, and no
further ahead than who is served next. So tenants with work get parts of the workers' time in proportion to their
shares, whatever each has waiting, and whether it sends its jobs at once or one by one.

Submits of a tenant at the same instant do not see each other's jobs. They stand behind each other by the tenant's
`line_turn`, which counts where the transaction that wrote it is not visible yet. Then a job is added only where the
limits leave room for many like it; else it is for the next statement, which sees what this one waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Interval, Text, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from core.domain.job import WorkerKind
from core.domain.limit import Limits

_MANY = 64
"""More of a tenant's submits than ever wait for each other: each takes a connection to the database."""

_ADMIT = text(
    """
    WITH own AS (
      SELECT kind = ANY(:kinds) AS is_in_line, status, priority, place, created_at, id, cost_seconds, claimed_at
      FROM job
      WHERE tenant_id = :tenant_id AND status IN ('queued', 'running')
    ), allowed AS (
      SELECT coalesce(max(queued_jobs), :queued_jobs) AS jobs,
        coalesce(max(queued_seconds), :queued_seconds) AS seconds,
        coalesce(max(gpu_seconds_per_day), :gpu_seconds_per_day) AS gpu_seconds,
        coalesce(max(share), :share) AS share
      FROM tenant_limit WHERE tenant_id = :tenant_id
    ), new AS (
      SELECT cost, cost / share AS length, share
      FROM allowed, (SELECT :work_units * coalesce(
        (SELECT seconds_per_unit FROM work_rate WHERE base_model_id = :base_model_id AND kind = :kind),
        :guessed_seconds_per_unit) AS cost) AS estimate
    ), waiting AS (
      SELECT count(*) FILTER (WHERE status = 'queued' AND is_in_line) AS jobs,
        coalesce(sum(cost_seconds) FILTER (WHERE status = 'queued' AND is_in_line), 0) AS seconds,
        coalesce(sum(cost_seconds) FILTER (WHERE status = 'queued'), 0) AS seconds_of_all,
        coalesce(sum(greatest(cost_seconds, extract(epoch FROM now() - claimed_at)))
          FILTER (WHERE status = 'running'), 0) AS running
      FROM own
    ), used AS (
      SELECT coalesce(sum(gpu_usage.seconds), 0) + max(waiting.running) AS seconds
      FROM waiting LEFT JOIN gpu_usage ON tenant_id = :tenant_id AND hour > now() - interval '24 hours'
    ), standing AS (
      SELECT
        new.cost,
        waiting.jobs AS waiting_jobs,
        waiting.seconds AS waiting_seconds,
        waiting.seconds_of_all AS waiting_seconds_of_all,
        used.seconds AS used_seconds,
        allowed.jobs AS allowed_jobs,
        allowed.seconds AS allowed_seconds,
        allowed.gpu_seconds AS allowed_gpu_seconds,
        (SELECT coalesce(sum(slots), 0) FROM worker_presence
          WHERE kind = :worker AND seen_at > now() - make_interval(secs => :seen_within_seconds)) AS slots,
        waiting.jobs < allowed.jobs AND (waiting.seconds = 0 OR waiting.seconds + new.cost <= allowed.seconds)
          AND used.seconds + waiting.seconds_of_all + new.cost <= allowed.gpu_seconds AND has_room AS fits,
        has_room
      FROM new, waiting, used, allowed, line_has_room(:queued_jobs_of_all) AS has_room
    ), turn AS (
      INSERT INTO line_turn AS turn (tenant_id, worker, next_place, share, taken_by)
      SELECT :tenant_id, :worker, length + greatest(
          (SELECT max(place + cost_seconds / share) FROM own WHERE is_in_line), line_front(:kinds)),
        share, pg_current_xact_id()::text::bigint
      FROM new, standing
      WHERE fits
        AND NOT EXISTS (SELECT FROM job WHERE tenant_id = :tenant_id AND idempotency_key = :idempotency_key)
      ON CONFLICT (tenant_id, worker) DO UPDATE SET taken_by = excluded.taken_by, share = excluded.share,
        next_place = greatest(excluded.next_place, turn.served_place + (SELECT length FROM new), CASE
          WHEN NOT pg_visible_in_snapshot(turn.taken_by::text::xid8, pg_current_snapshot())
          THEN turn.next_place + (SELECT length FROM new) END)
      WHERE pg_visible_in_snapshot(turn.taken_by::text::xid8, pg_current_snapshot()) OR (
        SELECT waiting_jobs + :many <= allowed_jobs AND waiting_seconds + :many * cost <= allowed_seconds
          AND used_seconds + waiting_seconds_of_all + :many * cost <= allowed_gpu_seconds FROM standing)
      RETURNING next_place - (SELECT length FROM new) AS place
    ), added AS (
      INSERT INTO job (id, tenant_id, kind, spec, plan, plan_version, base_model_id, dataset_id, priority, place,
        work_units, cost_seconds, rung_at, deadline_at, idempotency_key, request_sha256, webhook, webhook_events)
      SELECT :id, :tenant_id, :kind, :spec, :plan, :plan_version, :base_model_id, :dataset_id, :priority, place,
        :work_units, cost, now(), now() + :cancel_after, :idempotency_key, :request_sha256, :webhook, :webhook_events
      FROM new, turn
      ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
      RETURNING created_at
    ), passed AS (  -- the turn of the tenant's first job that this one goes before
      SELECT place, created_at, id FROM own
      WHERE is_in_line AND status = 'queued' AND EXISTS (SELECT FROM own WHERE priority > :priority)
      ORDER BY place, created_at, id
      OFFSET (SELECT count(*) FROM own WHERE is_in_line AND status = 'queued' AND priority <= :priority)
      LIMIT 1
    ), stand AS (
      SELECT * FROM passed WHERE EXISTS (SELECT FROM turn)
      UNION ALL SELECT place, 'infinity', :id FROM turn WHERE NOT EXISTS (SELECT FROM passed)
    ), ahead AS (
      SELECT ahead.jobs, ahead.seconds FROM stand, line_ahead(:kinds, place, created_at, id) AS ahead
    )
    SELECT standing.*, place, ahead.jobs AS jobs_ahead, ahead.seconds AS cost_ahead, created_at
    FROM standing LEFT JOIN turn ON true LEFT JOIN ahead ON true LEFT JOIN added ON true
    """
).bindparams(
    bindparam("spec", type_=JSONB),
    bindparam("plan", type_=JSONB),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("webhook_events", type_=ARRAY(Text)),
    bindparam("cancel_after", type_=Interval),
)

_UNTIL_ROOM = text(
    """
    WITH own AS (
      SELECT priority, place, created_at, id, cost_seconds FROM job
      WHERE tenant_id = :tenant_id AND kind = ANY(:kinds) AND status = 'queued'
    ), enough AS (
      SELECT starts FROM (
        SELECT priority, created_at, id, row_number() OVER so_far AS starts, sum(cost_seconds) OVER so_far AS seconds
        FROM own WINDOW so_far AS (ORDER BY priority, created_at, id ROWS UNBOUNDED PRECEDING)
      ) AS started
      WHERE starts >= :jobs AND seconds >= :seconds ORDER BY priority, created_at, id LIMIT 1
    ), turn AS (
      SELECT place, created_at, id FROM own
      ORDER BY place, created_at, id OFFSET coalesce((SELECT starts FROM enough), :waiting_jobs) - 1 LIMIT 1
    )
    SELECT ahead.seconds FROM turn, line_ahead(:kinds, place, created_at, id) AS ahead
    """
).bindparams(bindparam("kinds", type_=ARRAY(Text)))

_UNTIL_START = text(
    """
    SELECT running.seconds
    FROM line_front(:kinds) AS front, line_ahead(:kinds, front, 'infinity', :last_id) AS first,
      line_ahead(:kinds, '-infinity', '-infinity', :last_id) AS running
    WHERE first.jobs > 0
    """
).bindparams(bindparam("kinds", type_=ARRAY(Text)))


@dataclass(frozen=True)
class Admission:
    """How a job stands; costs are estimated seconds of work.

    `cost` is the job's own. `waiting_…` is what its tenant had queued before for the same workers, and
    `waiting_seconds_of_all` for any; `used_seconds` is what its jobs ran for in 24 hours or run for now, and
    `allowed_…` what it may; `has_room` is whether the line of all tenants goes on, `fits` whether all of that leaves
    room. `place` is where the job stands in line, `created_at` when it came there; both are None where it was not
    added: a limit forbids it, the idempotency key was used before, or others of its tenant came at the same instant,
    who are seen next time. So are `jobs_ahead` and `cost_ahead`, which count everybody's before it; the rest of running
    ones is included in the cost.
    """

    cost: float
    waiting_jobs: int
    waiting_seconds: float
    waiting_seconds_of_all: float
    used_seconds: float
    allowed_jobs: float
    allowed_seconds: float
    allowed_gpu_seconds: float
    slots: int
    fits: bool
    has_room: bool
    place: float | None
    jobs_ahead: int | None
    cost_ahead: float | None
    created_at: datetime | None


def admit(
    session: Session,
    values: dict[str, Any],
    *,
    cancel_after: timedelta | None,
    worker: WorkerKind,
    kinds: Sequence[str],
    guessed_seconds_per_unit: float,
    limits: Limits,
    seen_within_seconds: float,
) -> Admission:
    """Add a job of these column values, unless a limit forbids it: the tenant's own, or one of `limits`.

    What waits is counted for each line on its own, so that pictures need not wait for trainings: `kinds` are what the
    workers of `worker` do. A job of any cost may wait where no other of its tenant does. A day's GPU seconds are those
    of all workers.
    """
    row = session.execute(
        _ADMIT,
        values
        | {
            "cancel_after": cancel_after,
            "worker": worker,
            "kinds": list(kinds),
            "guessed_seconds_per_unit": guessed_seconds_per_unit,
            "queued_jobs": limits.queued_jobs,
            "queued_jobs_of_all": limits.queued_jobs_of_all,
            "queued_seconds": limits.queued_seconds,
            "gpu_seconds_per_day": limits.gpu_seconds_per_day,
            "share": limits.share,
            "seen_within_seconds": seen_within_seconds,
            "many": _MANY,
        },
    ).one()
    return Admission(*row)


def cost_until_room(session: Session, *, tenant_id: UUID, kinds: Sequence[str], standing: Admission) -> float:
    """Seconds of everybody's work before that job of the tenant whose start leaves room in its line for one like this.

    Waiting jobs become fewer when they start. The rest of running ones is included, and 0 is room by now.
    """
    given = {
        "tenant_id": tenant_id,
        "kinds": list(kinds),
        "jobs": floor(max(standing.waiting_jobs - standing.allowed_jobs, 0)) + 1,
        "seconds": standing.waiting_seconds + standing.cost - standing.allowed_seconds,
        "waiting_jobs": standing.waiting_jobs,
    }
    return float(session.scalar(_UNTIL_ROOM, given) or 0.0)


def cost_until_start(session: Session, *, kinds: Sequence[str]) -> float | None:
    """Seconds of work before the first in line of all tenants: the rest of what runs. None where nobody waits."""
    found = session.scalar(_UNTIL_START, {"kinds": list(kinds), "last_id": UUID(int=2**128 - 1)})
    return None if found is None else float(found)
