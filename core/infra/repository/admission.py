"""Add a job if there is room, and say how it stands: one statement, because every submit runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Interval, Text, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from core.domain.job import WorkerKind

_ADMIT = text(
    """
    WITH standing AS (
      SELECT
        :work_units * coalesce(
          (SELECT seconds_per_unit FROM work_rate WHERE base_model_id = :base_model_id AND kind = :kind),
          :guessed_seconds_per_unit) AS cost,
        (SELECT coalesce(sum(cost_seconds), 0) FROM job WHERE tenant_id = :tenant_id AND status = 'queued') AS waiting,
        (SELECT coalesce(sum(slots), 0) FROM worker_presence
          WHERE kind = :worker AND seen_at > now() - make_interval(secs => :seen_within_seconds)) AS slots,
        count(*) FILTER (WHERE status = 'queued') AS jobs_ahead,
        coalesce(sum(CASE WHEN status = 'queued' THEN cost_seconds
          ELSE greatest(cost_seconds - extract(epoch FROM now() - claimed_at), 0) END), 0) AS cost_ahead
      FROM job
      WHERE kind = ANY(:kinds) AND (status = 'running' OR (status = 'queued' AND priority <= :priority))
    ), added AS (
      INSERT INTO job (id, tenant_id, kind, spec, plan, base_model_id, dataset_id, priority, work_units, cost_seconds,
        rung_at, deadline_at, idempotency_key, request_sha256)
      SELECT :id, :tenant_id, :kind, :spec, :plan, :base_model_id, :dataset_id, :priority, :work_units, cost,
        now(), now() + :cancel_after, :idempotency_key, :request_sha256
      FROM standing WHERE waiting = 0 OR waiting + cost <= :limit_seconds
      ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
      RETURNING created_at
    )
    SELECT cost, waiting, slots, jobs_ahead, cost_ahead, created_at FROM standing LEFT JOIN added ON true
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

    `cost` is the job's own, `waiting` what its tenant had queued before; `jobs_ahead` and `cost_ahead` count
    everybody's, the rest of running ones included in the cost. `created_at` is None where the job was not added:
    there is no room, or the idempotency key was used before.
    """

    cost: float
    waiting: float
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
    limit_seconds: float,
    seen_within_seconds: float,
) -> Admission:
    """Add a job of these column values, unless its tenant has other work waiting and more than `limit_seconds` in all.

    `kinds` are what the workers of `worker` do.
    """
    row = session.execute(
        _ADMIT,
        values
        | {
            "cancel_after": cancel_after,
            "worker": worker,
            "kinds": list(kinds),
            "guessed_seconds_per_unit": guessed_seconds_per_unit,
            "limit_seconds": limit_seconds,
            "seen_within_seconds": seen_within_seconds,
        },
    ).one()
    return Admission(*row)
