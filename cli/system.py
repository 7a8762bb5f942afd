"""The whole system on this machine: servers, schema, first key, workers, API; stopped again in order."""

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.backing import prepare, start_servers
from cli.bootstrap import bootstrap
from cli.client import Client
from cli.environment import ROOT, check, complete, data_folder, for_processes, keep
from cli.interruption import undisturbed
from cli.ledger import Ledger, is_free
from cli.lock import held
from cli.migration import migrate
from cli.process import Program, tail
from cli.refusal import Refusal, explained
from cli.supervisor import Supervisor
from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.settings import Settings
from core.services import run as runs

_HOPELESS_CRASHES = 3
_READY_SECONDS = 300.0
_GLANCE_SECONDS = 0.1
_WORKER_GROUP = 2  # after the servers
_DRAIN_SECONDS = 30.0  # for the longest picture: one that is killed pays an attempt, and the fourth is poison
_ANSWER_SECONDS = 1  # for requests that are under way once the API serves no more
_CLOSE_SECONDS = 0.5


@dataclass(frozen=True)
class System:
    """A system that runs: where its API is, and a key for it."""

    settings: Settings
    client: Client
    key: str
    supervisor: Supervisor

    def check_alive(self) -> None:
        """Give up on a program that crashes again and again.

        Raises:
            Refusal: names the program and its last words.
        """
        for name, crashes in self.supervisor.crashes().items():
            if crashes >= _HOPELESS_CRASHES:
                log = self.settings.data_dir / "logs" / f"{name}.log"
                raise Refusal(f"{name} crashed {crashes} times in a row. It said last: {tail(log)} Its log is {log}.")


@contextmanager
def running(given: Mapping[str, str], *, say: Callable[[str], None], durable: bool = True) -> Iterator[System]:
    """Everything, for as long as the block runs. `given` are the user's settings, by variable name.

    Raises:
        Refusal: something keeps it from starting; nothing is left running.
    """
    data = data_folder(given)
    prepare(data)
    # The same check that the processes will make, before anything is started for nothing.
    port = check(_with_placeholders(given, data)).port
    with held(data, port=port):
        with explained(data):
            ledger = Ledger(data / "embedded.json")
        supervisor = Supervisor(ledger, say)
        try:
            system = _start(given, data, supervisor, ledger, say=say, durable=durable)
            with closing(system.client):
                yield system
        finally:
            with undisturbed() as hurry:
                supervisor.stop(hurry=hurry)


def _start(
    given: Mapping[str, str],
    data: Path,
    supervisor: Supervisor,
    ledger: Ledger,
    *,
    say: Callable[[str], None],
    durable: bool,
) -> System:
    added = start_servers(supervisor, ledger, data=data, given=given, durable=durable)
    with explained(data):
        variables = complete(given, added, data=data)
        keep(variables, data=data)
    settings = check(variables)
    if not is_free(settings.host, settings.port):
        raise Refusal(
            f"Port {settings.port} is taken by another program. Stop that one, or choose another: "
            f"PORT={settings.port + 1}"
        )
    environment = for_processes(variables)
    migrate(settings.database_url)
    key = bootstrap(settings, key_file=data / "api_key", say=say)
    supervisor.watch()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # asked, not bound
    system = System(settings, Client(f"http://{host}:{settings.port}", key), key, supervisor)
    _start_programs(system, environment)
    return system


def _start_programs(system: System, environment: Mapping[str, str]) -> None:
    """Start our own processes and wait until pictures can be made."""
    programs, settings = _programs(system.settings, environment), system.settings
    database = Database(settings.database_url, pool_size=1)

    def has_worker() -> bool:
        try:
            with database.transaction() as session:
                return runs.lives_on(session, host=platform.node())
        except Unavailable:
            return False

    with closing(database), explained(settings.data_dir):
        system.supervisor.start([programs["upkeep"], programs["worker-generation"]], group=_WORKER_GROUP)
        system.supervisor.start([programs["api"]])
        _await(system, system.client.is_ready, "The API did not answer")
        _await(system, has_worker, "The generation worker did not start")
        # It loads the same large libraries: until now it would only have made the first picture wait.
        system.supervisor.start([programs["worker-training"]], group=_WORKER_GROUP)


def _with_placeholders(given: Mapping[str, str], data: Path) -> dict[str, str]:
    needed = ("DATABASE_URL", "REDIS_URL", "S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
    embedded = {} if given.get("S3_ENDPOINT_URL") or given.get("S3_BUCKET") else dict.fromkeys(needed, "embedded")
    return {"SECRET_KEY": "-" * 32, **dict.fromkeys(needed[:2], "embedded"), **embedded, **given, "DATA_DIR": str(data)}


def _programs(settings: Settings, environment: Mapping[str, str]) -> dict[str, Program]:
    """Our own processes, by name."""
    address = ("--host", settings.host, "--port", str(settings.port))
    graceful = ("--timeout-graceful-shutdown", str(_ANSWER_SECONDS))
    patience = {"api": settings.drain_seconds + _ANSWER_SECONDS + _CLOSE_SECONDS}
    commands = {
        "upkeep": ("worker.upkeep",),
        "worker-generation": ("worker.main", "generation"),
        "worker-training": ("worker.main", "training"),
        "api": ("uvicorn", "api.main:create_app", "--factory", *address, *graceful),
    }
    return {
        name: Program(
            name=name,
            command=(sys.executable, "-m", *command),
            log=settings.data_dir / "logs" / f"{name}.log",
            environment=environment,
            folder=ROOT,
            patience_seconds=patience.get(name, _DRAIN_SECONDS),
        )
        for name, command in commands.items()
    }


def _await(system: System, condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not condition():
        system.check_alive()
        if time.monotonic() > deadline:
            raise Refusal(f"{complaint} within {_READY_SECONDS:.0f} s. See {system.settings.data_dir / 'logs'}.")
        time.sleep(_GLANCE_SECONDS)
