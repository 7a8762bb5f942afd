"""A connection that broke at rest costs one reconnect; one that breaks again is an outage; and errors tell no row."""

import time
import traceback
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from chaos.cut import at
from chaos.relay import Relay
from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.settings import Settings
from tests.job_bench import JobBench
from tests.loop_bench import wait_until

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
    relay.arm(at(PING))
    rested.check()


def test_what_breaks_again_is_unavailable(rested: Database, relay: Relay) -> None:
    relay.arm(at(PING))
    relay.arm(at(PING))
    relay.arm(at(ASK))
    with pytest.raises(Unavailable):
        rested.check()
    rested.check()


def is_connected(database: Database, pid: int) -> bool:
    with database.transaction() as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}))


@pytest.mark.parametrize("begun", ["before", "after"])
def test_a_transaction_that_outlasts_the_close_gives_its_connection_back(
    settings: Settings, database: Database, begun: str
) -> None:
    late = Database(settings.database_url)
    late.check()
    if begun == "after":
        late.close()
    with late.transaction() as session:
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        late.close()
    wait_until(lambda: not is_connected(database, pid))


def test_an_error_shows_nothing_of_the_row_that_it_is_about(bench: JobBench) -> None:
    bench.submit(plan={"prompt": "a sesquipedalian star"})
    with pytest.raises(IntegrityError) as refusal:
        bench.execute("UPDATE job SET cancel_requested = true")
    shown = "".join(traceback.format_exception(refusal.value))
    assert "canceled_not_in_line" in shown
    assert "sesquipedalian" not in shown
