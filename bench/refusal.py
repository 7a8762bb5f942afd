"""How long a refusal takes on an idle machine, by how much waits: nothing, a tenant's full line, everybody's.

Lines are as long as the defaults let them be, and their jobs like one that was served. They are put there by SQL, and
vacuum has seen them, as it has by the time that clients have sent so many. No worker takes them: they are not ready for
a day.
"""

from contextlib import closing
from typing import Any

import psycopg
from sqlalchemy import text

from bench import report
from bench.tenant import Client, Tenant, furnish
from cli.system import System
from core.infra.database import Database
from core.infra.settings import Settings

FULL_LINE = int(Settings.model_fields["max_queued_jobs"].default)
FULL_LINE_OF_ALL = int(Settings.model_fields["max_queued_jobs_of_all"].default)
_LINES = FULL_LINE_OF_ALL // FULL_LINE
_WARM, _COUNTED = 100, 500
_FILL = text(
    """
    INSERT INTO job (id, tenant_id, kind, spec, plan, base_model_id, place, work_units, cost_seconds, created_at,
      run_after)
    SELECT gen_random_uuid(), tenant.id, kind, spec, plan, base_model_id, n, work_units, cost_seconds,
      now() - interval '1 hour' + n * interval '1 ms', now() + interval '1 day'
    FROM generate_series(1, :jobs) AS n, unnest(CAST(:tenants AS uuid[])) AS tenant (id), (
      SELECT kind, spec, plan, base_model_id, work_units, cost_seconds FROM job
      WHERE kind = 'generation' AND status = 'succeeded' LIMIT 1) AS served
    ORDER BY n
    """
)


def when_idle(system: System, database: Database) -> dict[str, Any]:
    """Milliseconds of refusals, by what waits; of a tenant that may have nothing waiting, or no more than it has."""
    nobody = furnish(database, "with nothing waiting", queued_jobs=0.0)
    found = {"refusal_ms_idle": _timed(system, nobody)}
    lines = [furnish(database, f"with a full line {n}", queued_jobs=float(FULL_LINE)) for n in range(_LINES)]
    _fill(system, database, lines[:1])
    found[f"refusal_ms_idle_with_{FULL_LINE}_waiting"] = _timed(system, lines[0])
    _fill(system, database, lines[1:])
    found[f"refusal_ms_idle_with_{FULL_LINE}_of_{FULL_LINE_OF_ALL}_waiting"] = _timed(system, lines[-1])
    found[f"refusal_ms_idle_with_{FULL_LINE_OF_ALL}_of_others_waiting"] = _timed(system, furnish(database, "newcomer"))
    return found


def _fill(system: System, database: Database, tenants: list[Tenant]) -> None:
    """Give each a full line; they take turns in it, as they would."""
    with database.transaction() as session:
        session.execute(_FILL, {"jobs": FULL_LINE, "tenants": [tenant.id for tenant in tenants]})
    with psycopg.connect(system.settings.database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE job")


def _timed(system: System, tenant: Tenant) -> dict[str, float]:
    """Of refusals one after the other, while nothing else goes on."""
    with closing(Client(system.client.url, tenant)) as client:
        for _ in range(_WARM + _COUNTED):
            client.submit()
        assert len(client.refusals) == _WARM + _COUNTED, "every one of them is too much"
        return report.quantiles([answer.ms for answer in client.refusals[_WARM:]])
