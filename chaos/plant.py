"""The system that things happen to: its servers behind relays, its programs in groups of their own, kept up.

What an orchestrator would do is done here: a program that ended is started again, whatever ended it.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psycopg

from chaos.journal import Journal
from chaos.mutation import Part
from chaos.nursery import Nursery
from chaos.old_version import go_back, start_old
from chaos.patience import came
from chaos.point import Points
from chaos.relay import Relay
from chaos.report import Death
from cli.backing import prepare
from cli.bootstrap import bootstrap
from cli.client import Client
from cli.embedded.selection import missing_servers
from cli.embedded.server import Server, await_ready
from cli.environment import check, complete, for_processes
from cli.ledger import Ledger
from cli.migration import migrate
from cli.process import birth, end_group, start

LEASE_SECONDS = 3.0
_QUICK = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "SWEEP_SECONDS": "0.5",
    "RING_SECONDS": "2",
    "POLL_SECONDS": "1",
    "STALL_SECONDS": "8",
    "CHECKPOINT_SECONDS": "0.5",
    "AFFINITY_SECONDS": "1",
    "GENERATION_SLOTS": "3",
    "MAX_QUEUED_SECONDS": "100000",
}
_GLANCE_SECONDS = 0.1
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Size:
    """How many processes of each program there are."""

    generation: int = 2
    training: int = 1
    api: int = 2
    upkeep: int = 2


@dataclass
class Post:
    """A place that some process of a program always fills. `lock` is held by who harms it.

    `old` is the work tree of another version, whose program it is.
    """

    name: str
    command: tuple[str, ...]
    old: Path | None = None
    pid: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_alive(self) -> bool:
        return self.pid > 0 and birth(self.pid) is not None

    def send(self, number: signal.Signals) -> None:
        """To its whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Plant:
    """Owns a data folder and everything that runs over it, for as long as its block lasts.

    What the system's clients were told is in its `journal`, whoever they are.
    """

    def __init__(
        self,
        data: Path,
        *,
        size: Size | None = None,
        without: Part | None = None,
        given: Mapping[str, str] | None = None,
        old: Path | None = None,
    ) -> None:
        self.data = data
        self.without = without
        self.points = Points(data / "point")
        self.relays: dict[str, Relay] = {}
        self.deaths: list[Death] = []
        self.locks = {name: threading.Lock() for name in ("postgres", "valkey", "s3")}
        self._size, self._given = size or Size(), _QUICK | dict(given or {})
        self._old = old
        self._servers: dict[str, Server] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._posts: list[Post] = []
        self._apis: list[str] = []
        self._closing = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> "Plant":
        prepare(self.data)
        self.journal = self._stack.enter_context(Journal(self.data / "journal.jsonl"))
        self._ledger = Ledger(self.data / "embedded.json")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._stack.close()
        for process in self._processes.values():
            end_group(process.pid)
            process.wait()

    def _start(self) -> None:
        leads: dict[str, str] = {}
        for server in missing_servers(self.data, self._ledger, {}, durable=True):
            self._servers[server.program.name] = server
            leads |= server.settings
        for name in self._servers:
            self.start_server(name)
        self.direct = check(complete({**leads, **self._given}, {}, data=self.data))
        self._variables = complete(self._through_relays(leads) | self._given, {}, data=self.data)
        migrate(self.direct.database_url)
        self.key = bootstrap(self.direct, key_file=self.data / "api_key", say=lambda _: None)
        self.environment = for_processes(self._variables)
        self._nursery = Nursery(self.environment, log=self.data / "logs" / "nursery.log")
        self._stack.callback(self._nursery.close)
        self._stack.callback(self._end_old)
        if self._old is not None:
            go_back(self.direct.database_url, old=self._old)
        self._man()
        keeper = threading.Thread(target=self._keep_up, name="keeper", daemon=True)
        keeper.start()
        self._stack.callback(keeper.join)
        self._await_ready()

    def _end_old(self) -> None:
        for post in self._posts:
            if post.old and post.pid:
                end_group(post.pid)

    def _through_relays(self, leads: Mapping[str, str]) -> dict[str, str]:
        found = dict(leads)
        for name, variable in (("postgres", "DATABASE_URL"), ("valkey", "REDIS_URL"), ("s3", "S3_ENDPOINT_URL")):
            port = urlsplit(leads[variable]).port
            assert port is not None
            relay = self._stack.enter_context(Relay(name, port))
            self.relays[name] = relay
            found = {key: value.replace(f":{port}", f":{relay.port}") for key, value in found.items()}
        return found

    def _man(self) -> None:
        """Every post, at first with the old version's programs where there is one."""
        faults = str(self.data / "point")
        for number in range(self._size.generation):
            self._posts.append(Post(f"worker-{number}", ("worker", "generation", faults)))
        for number in range(self._size.training):
            self._posts.append(Post(f"trainer-{number}", ("worker", "training", faults)))
        for number in range(self._size.upkeep):
            self._posts.append(Post(f"upkeep-{number}", ("upkeep",)))
        for number in range(self._size.api):
            port = self._ledger.port(f"api-{number}")
            self._apis.append(f"http://127.0.0.1:{port}")
            self._posts.append(Post(f"api-{number}", ("api", str(port))))
        for post in self._posts:
            post.old = self._old

    def _keep_up(self) -> None:
        while not self._closing.wait(_GLANCE_SECONDS):
            for post in self._posts:
                if not post.is_alive:
                    self._fill(post)

    def _fill(self, post: Post) -> None:
        if post.pid:
            self.deaths.append(Death(datetime.now(UTC), post.name, post.pid))
            end_group(post.pid)
        variables = self.environment | ({"CHAOS_WITHOUT": self.without} if self.without else {})
        log = self.log_of(post)
        if post.old is None:
            post.pid = self._nursery.start(post.command, environment=variables, log=log)
        else:
            post.pid = start_old(post.command, old=post.old, environment=variables, log=log)

    def _await_ready(self) -> None:
        for url in self._apis:
            with closing(Client(url, self.key)) as client:
                if not came(partial(_is_ready, client), within=_START_SECONDS):
                    raise TimeoutError(f"The system did not start; see {self.data / 'logs'}.")

    @property
    def apis(self) -> Sequence[str]:
        """The addresses of the API processes."""
        return self._apis

    def posts(self, kind: str) -> list[Post]:
        """Those whose names begin with `kind`."""
        return [post for post in self._posts if post.name.startswith(kind)]

    def log_of(self, post: Post) -> Path:
        """What all that ever filled the post wrote."""
        return self.data / "logs" / f"{post.name}.log"

    @contextmanager
    def one_of(self, kind: str, random: Random) -> Iterator[Post]:
        """A post that nothing else harms for the while."""
        post = random.choice(self.posts(kind))
        with post.lock:
            yield post

    def kill_server(self, name: str, number: signal.Signals) -> None:
        """Signal a server and wait until it has ended."""
        process = self._processes[name]
        process.send_signal(number)
        process.wait()
        end_group(process.pid)

    def start_server(self, name: str) -> None:
        """Start it, again, and wait until it answers."""
        server = self._servers[name]
        process = start(server.program, self._ledger.add)
        self._processes[name] = process
        await_ready(server, process)

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection to Postgres past the relay, each statement a transaction."""
        return psycopg.connect(self.direct.database_url, autocommit=True)


def _is_ready(client: Client) -> bool:
    return client.is_ready() and client.models()[0]["status"] == "ready"
