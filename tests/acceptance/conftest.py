"""The whole real system, started once for all acceptance tests, as `lorikeet up` starts it."""

import time
from collections.abc import Iterator

import pytest

from cli.client import Client
from cli.ledger import is_free
from cli.system import System, running

LEASE_SECONDS = 4.0


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Embedded servers, API, workers and upkeep, with the tiny model ready; leases and checkpoints are short."""
    given = {
        "DATA_DIR": str(tmp_path_factory.mktemp("system")),
        "PORT": str(next(port for port in range(5600, 5700) if is_free("127.0.0.1", port))),
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "SWEEP_SECONDS": "0.5",
        "POLL_SECONDS": "1",
        "CHECKPOINT_SECONDS": "1",
    }
    with running(given, say=print, durable=False) as system:
        deadline = time.monotonic() + 120
        while any(model["status"] == "checking" for model in system.client.models()):
            assert time.monotonic() < deadline, "the tiny model was not checked in time"
            time.sleep(0.2)
        yield system


@pytest.fixture
def client(system: System) -> Client:
    """Speaks to the system with the first tenant's key."""
    return system.client
