"""Writes down every change of a job's state inside Postgres itself, whoever makes it: what the oracle reads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

_INSTALL = """
CREATE TABLE chaos_transition (
  number bigint GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  job_id uuid NOT NULL,
  before text,
  after text NOT NULL,
  epoch int NOT NULL,
  worker_id text
);
CREATE FUNCTION chaos_write_down() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos_transition (job_id, after, epoch) VALUES (NEW.id, NEW.status, NEW.claim_epoch);
  ELSIF (OLD.status, OLD.claim_epoch) IS DISTINCT FROM (NEW.status, NEW.claim_epoch) THEN
    INSERT INTO chaos_transition (job_id, before, after, epoch, worker_id)
    VALUES (NEW.id, OLD.status, NEW.status, NEW.claim_epoch, coalesce(NEW.worker_id, OLD.worker_id));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_write_down AFTER INSERT OR UPDATE ON job FOR EACH ROW EXECUTE FUNCTION chaos_write_down();
"""


@dataclass(frozen=True)
class Transition:
    """A job went from `before` to `after`; None before its first."""

    at: datetime
    job_id: UUID
    before: str | None
    after: str
    epoch: int
    worker_id: str | None


def install(connection: "psycopg.Connection[Any]") -> None:
    """From now on."""
    connection.execute(_INSTALL)


def read(connection: "psycopg.Connection[Any]") -> list[Transition]:
    """All, in the order in which they happened."""
    columns = "at, job_id, before, after, epoch, worker_id"
    rows = connection.execute(f"SELECT {columns} FROM chaos_transition ORDER BY job_id, number")  # ours
    return [Transition(*row) for row in rows]
