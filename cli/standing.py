"""The servers that a system stands on, without the system: those that run, or else the embedded ones for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cli.backing import prepare, start_servers
from cli.environment import check, complete, data_folder, keep, read_running
from cli.interruption import stoppable, undisturbed
from cli.ledger import Ledger
from cli.lock import held
from cli.refusal import Refusal, explained
from cli.supervisor import Supervisor
from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.settings import Settings


@contextmanager
def standing(given: Mapping[str, str]) -> Iterator[Settings]:
    """Settings that lead to servers which answer, for as long as the block runs. `given` are the user's, by name.

    Raises:
        Refusal: a server that the user gave does not answer, or an embedded one does not start.
    """
    running = _running(given)
    if running is not None:
        yield running
        return
    data = data_folder(given)
    prepare(data)
    with held(data, port=0), stoppable():
        with explained(data):
            ledger = Ledger(data / "embedded.json")
        supervisor = Supervisor(ledger, lambda _: None)
        try:
            added = start_servers(supervisor, ledger, data=data, given=given)
            with explained(data):
                variables = complete(given, added, data=data)
                keep(variables, data=data)
            yield check(variables)
        finally:
            with undisturbed():
                supervisor.stop()


def _running(given: Mapping[str, str]) -> Settings | None:
    """Of the system that runs over the data folder, or of the user's own servers."""
    try:
        settings = check(read_running(given))
    except Refusal:  # nothing was ever started here
        return None
    database = Database(settings.database_url, pool_size=1)
    try:
        database.check()
    except Unavailable as error:
        if given.get("DATABASE_URL"):
            raise Refusal(error.message) from error
        return None
    finally:
        database.close()
    return settings
