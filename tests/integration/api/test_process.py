"""The API as a process of its own, behind uvicorn."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from core.infra.settings import Settings
from tests.api_bench import Tenancy
from tests.conftest import free_port
from tests.integration.worker.test_worker_process import ROOT, environment

RESIDENT_MEGABYTES = 200


class Process:
    """A uvicorn process that answers."""

    def __init__(self, settings: Settings) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "uvicorn", "api.main:create_app", "--factory", "--port", str(port)]
        self.popen = subprocess.Popen(command, env=environment(settings), cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.popen.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    process = Process(settings)
    yield process
    if process.popen.poll() is None:
        os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.wait()


def test_a_process_that_is_asked_to_end_lets_those_go_who_wait(process: Process, tenant: Tenancy) -> None:
    tenant.register_model()
    answers: list[int] = []

    def wait() -> None:
        headers = tenant.headers | {"Prefer": "wait=60"}
        body = {"prompt": "a star"}
        answer = httpx.post(f"{process.url}/api/generate", json=body, headers=headers, timeout=90, trust_env=False)
        answers.append(answer.status_code)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not tenant.get("/api/jobs?kind=generation").json()["items"]:
        time.sleep(0.05)
    process.popen.send_signal(signal.SIGTERM)
    process.popen.wait(timeout=30)
    waiter.join(timeout=10)
    assert answers == [httpx.codes.ACCEPTED]


def test_a_process_stays_small_while_it_works(process: Process, tenant: Tenancy) -> None:
    tenant.register_model()
    with httpx.Client(base_url=process.url, headers=tenant.headers, trust_env=False) as client:
        for number in range(200):
            assert client.post("/api/generate", json={"prompt": f"star {number}"}).status_code == httpx.codes.ACCEPTED
        assert client.get("/api/jobs?limit=100").status_code == httpx.codes.OK
        assert client.get("/metrics").status_code == httpx.codes.OK
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    [kilobytes] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert kilobytes <= RESIDENT_MEGABYTES * 1024
