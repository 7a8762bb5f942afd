"""Add a job if there is room, and say how it stands: one statement, because every submit runs it.

A job's place in line is its start tag in start-time fair queueing (Goyal, Vin and Cheng, 1996), in seconds of work:
behind what its tenant has in line already, and no further ahead than who is served next. So tenants with work get
equal shares of the workers' time, whatever each has waiting, and a tenant's own jobs keep their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Interval, Text, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from core.domain.job import WorkerKind
from core.domain.limit import Limits

_ADMIT = text(
    """
    WITH own AS (
      SELECT :work_units * coalesce(
        (SELECT seconds_per_unit FROM work_rate WHERE base_model_id = :base_model_id AND kind = :kind),
        :guessed_seconds_per_unit) AS cost
    ), fair AS (
      SELECT greatest(max(place + cost_seconds), line_front(:kinds, :priority)) AS place
      FROM job
      WHERE tenant_id = :tenant_id AND kind = ANY(:kinds) AND priority = :priority
        AND status IN ('queued', 'running')
    ), ahead AS (
      SELECT ahead.* FROM fair, line_ahead(:kinds, :priority, place, 'infinity', :id) AS ahead
    ), waiting AS (
      SELECT count(*) FILTER (WHERE status = 'queued') AS jobs,
        coalesce(sum(cost_seconds) FILTER (WHERE status = 'queued'), 0) AS seconds,
        coalesce(sum(greatest(cost_seconds, extract(epoch FROM now() - claimed_at)))
          FILTER (WHERE status = 'running'), 0) AS running
      FROM job WHERE tenant_id = :tenant_id AND status IN ('queued', 'running')
    ), used AS (
      SELECT coalesce(sum(gpu_usage.seconds), 0) + max(waiting.running) AS seconds,
        coalesce(extract(epoch FROM min(hour) + interval '24 hours' - now()), 86400) AS until_fewer
      FROM waiting LEFT JOIN gpu_usage ON tenant_id = :tenant_id AND hour > now() - interval '24 hours'
    ), allowed AS (
      SELECT coalesce(max(queued_jobs), :queued_jobs) AS jobs,
        coalesce(max(queued_seconds), :queued_seconds) AS seconds,
        coalesce(max(gpu_seconds_per_day), :gpu_seconds_per_day) AS gpu_seconds
      FROM tenant_limit WHERE tenant_id = :tenant_id
    ), standing AS (
      SELECT
        own.cost,
        fair.place,
        waiting.jobs AS waiting_jobs,
        waiting.seconds AS waiting_seconds,
        used.seconds AS used_seconds,
        used.until_fewer,
        allowed.jobs AS allowed_jobs,
        allowed.seconds AS allowed_seconds,
        allowed.gpu_seconds AS allowed_gpu_seconds,
        (SELECT coalesce(sum(slots), 0) FROM worker_presence
          WHERE kind = :worker AND seen_at > now() - make_interval(secs => :seen_within_seconds)) AS slots,
        ahead.jobs AS jobs_ahead,
        ahead.seconds AS cost_ahead
      FROM own, fair, ahead, waiting, used, allowed
    ), added AS (
      INSERT INTO job (id, tenant_id, kind, spec, plan, base_model_id, dataset_id, priority, place, work_units,
        cost_seconds, rung_at, deadline_at, idempotency_key, request_sha256)
      SELECT :id, :tenant_id, :kind, :spec, :plan, :base_model_id, :dataset_id, :priority, place, :work_units,
        cost, now(), now() + :cancel_after, :idempotency_key, :request_sha256
      FROM standing
      WHERE waiting_jobs < allowed_jobs
        AND (waiting_seconds = 0 OR waiting_seconds + cost <= allowed_seconds)
        AND used_seconds + waiting_seconds + cost <= allowed_gpu_seconds
      ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
      RETURNING created_at
    )
    SELECT standing.*, created_at FROM standing LEFT JOIN added ON true
    """
).bindparams(
    bindparam("spec", type_=JSONB),
    bindparam("plan", type_=JSONB),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("cancel_after", type_=Interval),
)


@dataclass(frozen=True)
class Admission:
    """How a job stands; costs are estimated seconds of work.

    `cost` is the job's own, `place` where it stands in line. `waiting_…` is what its tenant had queued before,
    `used_seconds` what its jobs ran for in 24 hours or run for now, some of which ends in `until_fewer` seconds, and
    `allowed_…` what it may. `jobs_ahead` and `cost_ahead` count everybody's, the rest of running ones included in the
    cost. `created_at` is None where the job was not added: a limit forbids it, or the idempotency key was used before.
    """

    cost: float
    place: float
    waiting_jobs: int
    waiting_seconds: float
    used_seconds: float
    until_fewer: float
    allowed_jobs: float
    allowed_seconds: float
    allowed_gpu_seconds: float
    slots: int
    jobs_ahead: int
    cost_ahead: float
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

    A job of any cost may wait where no other of its tenant does. `kinds` are what the workers of `worker` do.
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
            "queued_seconds": limits.queued_seconds,
            "gpu_seconds_per_day": limits.gpu_seconds_per_day,
            "seen_within_seconds": seen_within_seconds,
        },
    ).one()
    return Admission(*row)
