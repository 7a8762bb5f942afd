"""How much stands before a place in line, whosever it is."""

SIGNATURE = "line_ahead(text[], double precision, timestamptz, uuid)"

_DEFINITION = """
CREATE OR REPLACE FUNCTION line_ahead(
  kinds text[], of_place double precision, of_created_at timestamptz, of_id uuid, OUT jobs bigint,
  OUT seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
{query}
$$
"""

FROM_JOBS = _DEFINITION.replace(
    "{query}",
    """
  SELECT count(*) FILTER (WHERE status = 'queued'),
    coalesce(sum(CASE WHEN status = 'queued' THEN cost_seconds
      ELSE greatest(cost_seconds - extract(epoch FROM now() - claimed_at), 0) END), 0)
  FROM job
  WHERE kind = ANY(kinds) AND (status = 'running' OR (status = 'queued'
    AND (place, created_at, id) < (of_place, of_created_at, of_id)))
    """,
)

# Of those that wait it asks for nothing that is not in `ix_job_ready`.
FROM_INDEX = _DEFINITION.replace(
    "{query}",
    """
  SELECT waiting.jobs, waiting.seconds + running.seconds
  FROM (
    SELECT count(*) AS jobs, coalesce(sum(cost_seconds), 0) AS seconds FROM job
    WHERE kind = ANY(kinds) AND status = 'queued' AND (place, created_at, id) < (of_place, of_created_at, of_id)
  ) AS waiting, (
    SELECT coalesce(sum(greatest(cost_seconds - extract(epoch FROM now() - claimed_at), 0)), 0) AS seconds FROM job
    WHERE kind = ANY(kinds) AND status = 'running'
  ) AS running
    """,
)
