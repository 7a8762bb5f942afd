"""Real servers for the tests: started once, with a database, a queue and a bucket of its own for each test."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from cli.backing import prepare, start_servers
from cli.ledger import Ledger, any_free_port
from cli.supervisor import Supervisor
from cli.system import System, running
from cli.up import await_model
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.servers import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The real servers, once for all tests. They may lose data in a power cut, and are faster for it."""
    data = tmp_path_factory.mktemp("servers")
    prepare(data)
    ledger = Ledger(data / "embedded.json")
    supervisor = Supervisor(ledger, say=lambda _: None)
    try:
        yield Servers(start_servers(supervisor, ledger, data=data, given={}, durable=False), data)
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


@pytest.fixture(scope="session")
def stack(servers: Servers) -> Iterator[System]:
    """The whole system as `lorikeet up` starts it: API, both workers, upkeep, the tiny model checked and loaded.

    `stack.client` speaks to it with the first tenant's key. All tests of a run share it.
    """
    quick = {"PORT": str(any_free_port()), "POLL_SECONDS": "0.5", "SWEEP_SECONDS": "0.5", "LEASE_SECONDS": "5"}
    quick |= {"CHECKPOINT_SECONDS": "1", "WEBHOOK_PRIVATE": "true"}
    with running({**servers.variables(migrated=False), **quick}, say=print) as system:
        await_model(system, Console(quiet=True))
        yield system
