"""Real servers for the tests: started once, with a database, a queue and a bucket of its own for each test."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from cli.backing import prepare, start_servers
from cli.environment import ROOT, check
from cli.ledger import Ledger
from cli.supervisor import Supervisor
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings

_TEMPLATE = "migrated"
_number = itertools.count(1)


class Servers:
    """Postgres, Valkey and S3 on loopback. Each `settings()` leads to a part of them that nothing else uses."""

    def __init__(self, leads: dict[str, str], data: Path) -> None:
        self.database_url = leads["DATABASE_URL"]
        self.redis_url = leads["REDIS_URL"]
        self._leads = leads
        self._data = data

    def settings(self, **changes: str) -> Settings:
        """A migrated empty database, an empty Redis database, an empty bucket. `changes` by variable name."""
        number = next(_number)
        name = f"test_{number}"
        self.create_database(name, template=_TEMPLATE)
        settings = check(
            {
                **self._leads,
                "DATABASE_URL": self.url_of(name),
                "REDIS_URL": self.redis_url.rpartition("/")[0] + f"/{number % 63 + 1}",
                "S3_BUCKET": f"test-{number}",
                "SECRET_KEY": "for tests only, for tests only, for tests only",
                "DATA_DIR": str(self._data / name),
                **changes,
            }
        )
        ObjectStore(settings).create_bucket()
        return settings

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """An empty database, or a copy of another; its URL."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url_of(name)

    def drop_database(self, settings: Settings) -> None:
        """Remove the database of `settings()`, and whoever is still connected to it."""
        name = urlsplit(settings.database_url).path.lstrip("/")
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url_of(self, name: str) -> str:
        return self.database_url.rpartition("/")[0] + f"/{name}"


def migrate(url: str) -> None:
    """Bring a database to the newest schema."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["database_url"] = url
    command.upgrade(config, "head")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The real servers, once for all tests. They may lose data in a power cut, and are faster for it."""
    data = tmp_path_factory.mktemp("servers")
    prepare(data)
    ledger = Ledger(data / "embedded.json")
    supervisor = Supervisor(ledger, say=lambda _: None)
    try:
        leads = start_servers(supervisor, ledger, data=data, given={}, durable=False)
        servers = Servers(leads, data)
        migrate(servers.create_database(_TEMPLATE))
        yield servers
    finally:
        supervisor.stop()


@pytest.fixture
def settings(servers: Servers) -> Iterator[Settings]:
    """Settings that lead to a migrated empty database, an empty queue and an empty bucket."""
    settings = servers.settings()
    yield settings
    servers.drop_database(settings)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An open database, migrated and empty."""
    database = Database(settings.database_url)
    yield database
    database.close()


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """An object store with an empty bucket."""
    return ObjectStore(settings)
