"""The real servers of a test run, and the part of them that a test has to itself."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from redis import Redis

from cli.environment import check
from cli.migration import migrate
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings

_TEMPLATE = "migrated"
_REPLICAS = "min-replicas-to-write"
_number = itertools.count(1)


@contextmanager
def refuses_writes(settings: Settings) -> Iterator[Redis]:
    """While this lasts Redis answers, and writes nothing: for want of a replica, or of space on the disk for that."""
    with Redis.from_url(settings.redis_url) as redis:
        redis.config_set(_REPLICAS, 1)
        try:
            yield redis
        finally:
            redis.config_set(_REPLICAS, 0)


class Servers:
    """Postgres, Valkey and S3 on loopback. Each `settings()` leads to a part of them that nothing else uses."""

    def __init__(self, leads: dict[str, str], data: Path) -> None:
        self._leads = leads
        self._data = data
        migrate(self.create_database(_TEMPLATE))

    @property
    def database_url(self) -> str:
        return self._leads["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self._leads["REDIS_URL"]

    def variables(self, *, migrated: bool = True) -> dict[str, str]:
        """Settings by variable name: an empty database, an empty Redis database, a bucket that is not there yet."""
        number = next(_number)
        name = f"test_{number}"
        template = _TEMPLATE if migrated else "template1"
        return {
            **self._leads,
            "DATABASE_URL": self.create_database(name, template=template),
            "REDIS_URL": self.redis_url.rpartition("/")[0] + f"/{number}",
            "S3_BUCKET": f"test-{number}",
            "SECRET_KEY": "for tests only, for tests only, for tests only",
            "DATA_DIR": str(self._data / name),
        }

    def settings(self, **changes: str) -> Settings:
        """A migrated empty database, an empty Redis database, an empty bucket. `changes` by variable name."""
        settings = check({**self.variables(), **changes})
        ObjectStore(settings).create_bucket()
        return settings

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """An empty database, or a copy of another; its URL."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def drop_database(self, settings: Settings) -> None:
        """Remove the database of `settings()`, and whoever is still connected to it."""
        name = urlsplit(settings.database_url).path.lstrip("/")
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def url_of(self, name: str) -> str:
        return self.database_url.rpartition("/")[0] + f"/{name}"
