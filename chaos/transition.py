"""Writes down inside Postgres itself, whoever does it, what the oracle reads.

Every change of a job's state, what is written to a job that has ended or to its results, and when a running job was
asked to stop.
"""

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
CREATE TABLE chaos_cancel (job_id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION chaos_write_down() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos_transition (job_id, after, epoch) VALUES (NEW.id, NEW.status, NEW.claim_epoch);
    RETURN NULL;
  END IF;
  IF (OLD.status, OLD.claim_epoch) IS DISTINCT FROM (NEW.status, NEW.claim_epoch) OR OLD.completed_at IS NOT NULL AND
    (OLD.completed_at, OLD.error_code, OLD.error_message, OLD.execution_seconds, OLD.attempt, OLD.crash_count)
    IS DISTINCT FROM
    (NEW.completed_at, NEW.error_code, NEW.error_message, NEW.execution_seconds, NEW.attempt, NEW.crash_count)
  THEN
    INSERT INTO chaos_transition (job_id, before, after, epoch, worker_id)
    VALUES (NEW.id, OLD.status, NEW.status, NEW.claim_epoch, coalesce(NEW.worker_id, OLD.worker_id));
  END IF;
  IF NEW.status = 'running' AND NEW.cancel_requested AND NOT OLD.cancel_requested THEN
    INSERT INTO chaos_cancel (job_id) VALUES (NEW.id);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_write_down AFTER INSERT OR UPDATE ON job FOR EACH ROW EXECUTE FUNCTION chaos_write_down();
CREATE FUNCTION chaos_write_down_result() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO chaos_transition (job_id, before, after, epoch)
  SELECT id, status, status, claim_epoch FROM job WHERE id = OLD.job_id;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_write_down_result
  AFTER DELETE OR UPDATE OF job_id, claim_epoch, position, type, object_key, sha256, created_at ON artifact
  FOR EACH ROW EXECUTE FUNCTION chaos_write_down_result();
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


def cancels(connection: "psycopg.Connection[Any]") -> dict[UUID, datetime]:
    """When each job that ran was asked to stop."""
    rows = connection.execute("SELECT job_id, at FROM chaos_cancel").fetchall()
    return {UUID(str(job_id)): at for job_id, at in rows}
