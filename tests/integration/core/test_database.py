"""A connection that broke while it rested costs one reconnect; one that breaks again is an outage like any other."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from chaos.relay import Relay
from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.settings import Settings

PING = b"Q\0\0\0\x06;\0"  # an empty query, as psycopg sends it
ASK = b"SELECT 1"


@pytest.fixture
def relay(settings: Settings) -> Iterator[Relay]:
    port = urlsplit(settings.database_url).port
    assert port is not None
    with Relay("postgres", port) as relay:
        yield relay


@pytest.fixture
def rested(settings: Settings, relay: Relay) -> Iterator[Database]:
    """A database behind the relay, whose connection has lain in the pool for long enough to be pinged."""
    port = urlsplit(settings.database_url).port
    database = Database(settings.database_url.replace(f":{port}/", f":{relay.port}/"))
    database.check()
    time.sleep(1.1)
    yield database
    database.close()


def test_a_connection_that_broke_while_it_rested_is_opened_anew(rested: Database, relay: Relay) -> None:
    relay.cut_at(PING)
    rested.check()


def test_what_breaks_again_is_unavailable(rested: Database, relay: Relay) -> None:
    relay.cut_at(PING)
    relay.cut_at(PING)
    relay.cut_at(ASK)
    with pytest.raises(Unavailable):
        rested.check()
    rested.check()
