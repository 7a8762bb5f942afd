"""Tenants of a bench, and how they ask: each for itself, over HTTP, as any client would."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import httpx2 as httpx

from cli.system import System
from core.infra.database import Database
from core.services import api_key as api_keys
from core.services.limit import set_limits
from core.services.tenant import create_tenant

_PROMPT = "a large red star"


@dataclass(frozen=True)
class Tenant:
    """With a key."""

    id: UUID
    key: str


@dataclass(frozen=True)
class Answer:
    """What a submit came to, after so many milliseconds: the job's id, or seconds to wait where it was refused."""

    status: int
    ms: float
    job_id: str | None = None
    retry_after: int | None = None


class Client:
    """Submits for a tenant, from any number of threads, and keeps what was answered."""

    def __init__(self, url: str, tenant: Tenant, *, steps: int = 10) -> None:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
        self._request = {"prompt": _PROMPT, "steps": steps}
        self.tenant = tenant
        self.answers: list[Answer] = []

    def submit(self) -> Answer:
        """Ask for a picture.

        Raises:
            httpx.HTTPError: there was no answer, or one that neither takes the job nor puts it off.
        """
        began = time.perf_counter()
        response = self._http.post("/api/generate", json=self._request)
        ms = (time.perf_counter() - began) * 1e3
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            answer = Answer(response.status_code, ms, retry_after=int(response.headers["Retry-After"]))
        else:
            response.raise_for_status()
            answer = Answer(response.status_code, ms, job_id=str(response.json()["id"]))
        self.answers.append(answer)
        return answer

    def finish(self, job_id: str) -> None:
        """Wait for its end."""
        while self._http.get(f"/api/jobs/{job_id}").json()["completed_at"] is None:
            time.sleep(0.1)

    @property
    def refusals(self) -> list[Answer]:
        """The answers that put a job off."""
        return [answer for answer in self.answers if answer.retry_after is not None]

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()


@dataclass(frozen=True)
class Asking:
    """Tenants that ask now and then, since when, and their clients."""

    since: datetime
    clients: Sequence[Client]

    @property
    def refused(self) -> int:
        """How often any of them was."""
        return sum(len(client.refusals) for client in self.clients)


def furnish(database: Database, name: str, *, queued_jobs: float | None = None) -> Tenant:
    """A tenant with a key, and with a limit of its own for what may wait, if one is given."""
    with database.transaction() as session:
        tenant = create_tenant(session, name=name)
        if queued_jobs is not None:
            set_limits(session, tenant_id=tenant.id, changes={"queued_jobs": queued_jobs})
        return Tenant(tenant.id, api_keys.create(session, tenant_id=tenant.id, name="bench"))


@contextmanager
def asking_now_and_then(system: System, tenants: Sequence[Tenant], *, each: float) -> Iterator[Asking]:
    """Every tenant submits at random times, `each` so many a second.

    Raises:
        httpx.HTTPError: one of them got no answer that it could use; at the end.
    """
    stopped = threading.Event()

    def ask(client: Client, seed: int) -> None:
        random = Random(seed)
        while not stopped.wait(random.expovariate(each)):
            client.submit()

    with ExitStack() as stack:
        clients = [stack.enter_context(closing(Client(system.client.url, tenant))) for tenant in tenants]
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        asking = [pool.submit(ask, client, seed) for seed, client in enumerate(clients)]
        try:
            yield Asking(datetime.now(UTC), clients)
        finally:
            stopped.set()
        for one in asking:
            one.result()
