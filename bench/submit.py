"""Requests per CPU-second of the API process ÷ those of a bare FastAPI + Celery `.delay` endpoint.

`python -m bench.submit`. Both servers run at once on the same Valkey, take turns, and get the same requests from the
same clients; ours authenticates, checks the model, and commits a durable row in Postgres before it answers 202.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx

from bench import report
from cli.backing import prepare, start_servers
from cli.environment import check
from cli.ledger import Ledger
from cli.migration import migrate
from cli.supervisor import Supervisor
from core.domain.base_model import BaseModelSpec, ModelFacts, ModelFamily
from core.domain.generation import GenerationDefaults
from core.domain.job import JobKind
from core.domain.outcome import Outcome
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from core.services import api_key as api_keys
from core.services import model as models
from core.services import run as runs
from core.services.tenant import create_tenant

CLIENTS = 8
TARGET = 1.0
REQUEST = {"prompt": "a large red star on a blue background", "seed": 7, "num_images": 2, "steps": 20}
SECRET = "for this measurement only, not for anything else"


def main() -> bool:
    """Measure and print; the figures are requests per CPU-second of the server process; whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=800, help="requests of one round")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, backing(Path(folder)) as settings:
        key = furnish(settings)
        environment = os.environ | variables(settings)
        with (
            server("api.main", environment, port=5078) as ours,
            server("bench.bare_submit", environment, port=5079) as bare,
        ):
            sides = {"bare": Side(bare, 5079, {}), "ours": Side(ours, 5078, {"Authorization": f"Bearer {key}"})}
            for side in sides.values():
                side.measure(asked.requests // 4)
            figures = report.interleave(
                asked.rounds,
                {name: lambda side=side: side.measure(asked.requests) for name, side in sides.items()},  # type: ignore[misc]
            )
    ratio = statistics.median(figures["ours"]) / statistics.median(figures["bare"])
    return report.write("submit", unit="requests/CPU-s", figures=figures, ratio=ratio, target=TARGET)


class Side:
    """One of the two servers."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, headers: Mapping[str, str]) -> None:
        self._stat = Path(f"/proc/{process.pid}/stat")
        self._url = f"http://127.0.0.1:{port}/api/generate"
        self._headers = headers

    def measure(self, requests: int) -> float:
        """Requests per CPU-second over some requests from several clients."""
        before = self._cpu_seconds()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self._send, [requests // CLIENTS] * CLIENTS))
        return (requests // CLIENTS) * CLIENTS / (self._cpu_seconds() - before)

    def _send(self, number: int) -> None:
        with httpx.Client(headers=dict(self._headers), trust_env=False) as client:
            for _ in range(number):
                answer = client.post(self._url, json=REQUEST)
                assert answer.status_code == 202, answer.text

    def _cpu_seconds(self) -> float:
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def backing(data: Path) -> Iterator[Settings]:
    """Postgres, Valkey and S3, migrated and empty."""
    prepare(data)
    ledger = Ledger(data / "embedded.json")
    supervisor = Supervisor(ledger, say=print)
    try:
        leads = start_servers(supervisor, ledger, data=data, given={}, durable=True)
        migrate(leads["DATABASE_URL"])
        given = {"S3_BUCKET": "bench", "SECRET_KEY": SECRET, "DATA_DIR": str(data)}
        limits = ("MAX_QUEUED_SECONDS", "MAX_QUEUED_JOBS", "MAX_REQUESTS_PER_MINUTE")
        settings = check(leads | given | dict.fromkeys(limits, "inf"))
        ObjectStore(settings).create_bucket()
        yield settings
    finally:
        supervisor.stop()


def variables(settings: Settings) -> dict[str, str]:
    """The settings as a server process reads them."""
    secrets = {"s3_secret_access_key", "secret_key"}
    plain = {name: getattr(settings, name) for name in Settings.model_fields if name not in secrets}
    plain["update_policy"] = settings.update_policy.model_dump_json()
    hidden = {name: getattr(settings, name).get_secret_value() for name in secrets}
    return {name.upper(): str(value) for name, value in (plain | hidden).items() if value is not None}


def furnish(settings: Settings) -> str:
    """A tenant with a base model that is ready; its key."""
    database, queue = Database(settings.database_url), TaskQueue(settings)
    with database.transaction() as session:
        tenant = create_tenant(session, name="bench")
        key = api_keys.create(session, tenant_id=tenant.id, name="bench")
        spec = BaseModelSpec(name=settings.default_model, source="/nowhere")
        models.register(session, spec, tenant_id=tenant.id, queue=queue, shared=True)
    with database.transaction() as session:
        claim = runs.claim_next(session, kinds=[JobKind.REGISTRATION], worker_id="bench", lease_seconds=30)
        assert claim is not None
        facts = ModelFacts(
            family=ModelFamily.SD1, defaults=GenerationDefaults(), modules={"unet.conv_in": (8, 4, 3, 3)}
        )
        runs.finish(session, claim, Outcome(model_facts=facts))
    database.close()
    queue.close()
    return key


@contextmanager
def server(module: str, environment: Mapping[str, str], *, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    """A uvicorn process that answers."""
    command = [sys.executable, "-m", "uvicorn", f"{module}:create_app", "--factory", "--port", str(port)]
    process = subprocess.Popen([*command, "--no-access-log", "--log-level", "warning"], env=dict(environment))
    try:
        while not _answers(port):
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/openapi.json", trust_env=False)
    except httpx.TransportError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
