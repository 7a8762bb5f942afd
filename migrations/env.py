"""Runs the migrations, one process at a time, and never waits long for a lock."""

import logging

from alembic import context
from pydantic_settings import BaseSettings
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Connection

from core.infra.settings import Settings
from core.infra.table import Base

MIGRATION_LOCK = 0x10121  # any number, the same for every process that migrates
_log = logging.getLogger(__name__)


class Address(BaseSettings):
    """The one setting that is needed here, read as every process reads it."""

    model_config = Settings.model_config

    database_url: str | None = None


def run(connection: Connection) -> None:
    """Migrate over an open connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        # Held to the end of the transaction: a second process waits here, then finds nothing left to do.
        connection.execute(text("SET LOCAL statement_timeout = '15min'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        if is_of_a_later_version():
            _log.warning("The database was migrated by a later version, on whose schema this one runs; it stays so.")
        else:
            context.run_migrations()


def is_of_a_later_version() -> bool:
    """Whether the newest migration here was followed by others that are not known here."""
    [head] = context.script.get_heads()
    return any(each.isdecimal() and each > head for each in context.get_context().get_current_heads())


def database_url() -> str:
    """The URL given by a caller from Python, or DATABASE_URL of the environment or of `.env`."""
    url = context.config.attributes.get("database_url") or Address().database_url
    if not url:
        raise SystemExit(
            "DATABASE_URL is not set: give the Postgres to migrate, as postgresql://user:password@host/name"
        )
    return str(url)


if context.is_offline_mode():
    context.configure(url="postgresql://", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(
        database_url(), poolclass=NullPool, connect_args={"connect_timeout": 10}
    ).connect() as connection:
        run(connection)
