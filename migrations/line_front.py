"""Where a line begins: the place of who is served next, which newcomers stand behind."""

SIGNATURE = "line_front(text[])"


def line_front(*, if_empty: str) -> str:
    """The function's definition; `if_empty` is where a line begins in which nobody stands, or NULL for 0."""
    return f"""
CREATE OR REPLACE FUNCTION line_front(kinds text[]) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
  SELECT coalesce(
    -- Who is served next. A job that is back in line stands in front of it, where it was before.
    (SELECT min(place) FROM unnest(kinds) AS one, LATERAL (
      SELECT place FROM job WHERE kind = one AND status = 'queued' AND claim_epoch = 0 ORDER BY place LIMIT 1) AS head),
    (SELECT max(place) FROM job WHERE kind = ANY(kinds) AND status = 'running'),
    (SELECT min(place) FROM job WHERE kind = ANY(kinds) AND status = 'queued'),
    {if_empty},
    0)
$$
"""  # noqa: S608  # its parts are written in migrations
