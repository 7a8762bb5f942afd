"""Queries on the limits of tenants, and on what they have used."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, text
from sqlalchemy.orm import Session

from core.domain.job import WorkerKind
from core.infra.table import GpuUsage, TenantLimit

_USAGE_KEPT = timedelta(days=35)
_ADD_USAGE = text(
    """
    WITH run AS (
      -- Of a worker that has died nothing is known but that it did not outlive its lease, whenever that is noticed.
      SELECT tenant_id, place, extract(epoch FROM least(now(), lease_expires_at) - claimed_at) AS seconds
      FROM job WHERE id = :job_id
    ), in_line AS (
      UPDATE line_turn SET served_place = greatest(served_place, run.place + run.seconds / share)
      FROM run WHERE line_turn.tenant_id = run.tenant_id AND worker = :worker
    )
    INSERT INTO gpu_usage (tenant_id, hour, seconds)
    SELECT tenant_id, date_trunc('hour', now()), seconds FROM run
    ON CONFLICT (tenant_id, hour) DO UPDATE SET seconds = gpu_usage.seconds + excluded.seconds
    """
)


_UNTIL_FREED = text(
    """
    SELECT extract(epoch FROM hour + interval '24 hours' - now()) FROM (
      SELECT hour, sum(seconds) OVER (ORDER BY hour) AS freed FROM gpu_usage
      WHERE tenant_id = :tenant_id AND hour > now() - interval '24 hours'
    ) AS oldest
    WHERE freed >= :seconds ORDER BY hour LIMIT 1
    """
)


def of_tenant(session: Session, *, tenant_id: UUID) -> TenantLimit | None:
    """What the operator gave the tenant; a limit that is None is the settings'."""
    return session.get(TenantLimit, tenant_id)


def add_usage(session: Session, *, job_id: UUID, worker: WorkerKind) -> None:
    """Charge a job's tenant for the run that ends now: in its account, and where its next job stands in line."""
    session.execute(_ADD_USAGE, {"job_id": job_id, "worker": worker})


def seconds_until_freed(session: Session, *, tenant_id: UUID, seconds: float) -> float | None:
    """When so much of what the tenant used will be older than 24 hours; None where it has not used so much."""
    found = session.scalar(_UNTIL_FREED, {"tenant_id": tenant_id, "seconds": seconds})
    return None if found is None else float(found)


def forget_usage(session: Session) -> None:
    session.execute(
        delete(GpuUsage).where(GpuUsage.hour < func.now() - _USAGE_KEPT),
        execution_options={"synchronize_session": False},
    )
