"""The API as a process of its own, behind uvicorn."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy import select

from cli.ledger import any_free_port
from core.domain.api_key import make_key
from core.infra.settings import Settings
from core.infra.table import UserFeedback
from tests.api_bench import Tenancy
from tests.integration.api.test_dataset import PNG
from tests.integration.worker.test_worker_process import ROOT, environment
from tests.loop_bench import wait_until
from tests.unit.core.infra.test_decoder_pool import await_end

RESIDENT_MEGABYTES = 200


class Process:
    """A uvicorn process that answers."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        self.url = f"http://127.0.0.1:{(port := any_free_port())}"
        command = [sys.executable, "-m", "uvicorn", "api.main:create_app", "--factory", "--port", str(port)]
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                command, env=environment(settings), cwd=ROOT, start_new_session=True, stdout=out, stderr=out
            )
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
def process(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    hidden = settings.model_copy(update={"s3_public_endpoint_url": None} | getattr(request, "param", {}))
    process = Process(hidden, tmp_path / "api.log")
    yield process
    if process.popen.poll() is None:
        os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.wait()


@pytest.mark.parametrize("process", [{"drain_seconds": 300.0}], indirect=True)
def test_a_process_that_is_asked_to_end_serves_on_unless_asked_twice(process: Process) -> None:
    process.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{process.url}/readyz", trust_env=False).status_code == 503)
    assert httpx.get(f"{process.url}/readyz", trust_env=False).json()["status"] == "ending"
    assert httpx.get(f"{process.url}/healthz", trust_env=False).is_success
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("process", [{"drain_seconds": 300.0}], indirect=True)
def test_a_process_that_is_asked_to_end_sends_those_away_who_keep_connections(process: Process) -> None:
    with httpx.Client(base_url=process.url, trust_env=False) as client:
        assert "connection" not in client.get("/healthz").headers
        process.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/healthz").headers.get("connection") == "close")
        assert client.get("/nowhere").headers["connection"] == "close"


@pytest.mark.parametrize("process", [{"drain_seconds": 0.5}], indirect=True)
def test_a_process_that_is_asked_to_end_does_so_when_others_had_time_to_notice(process: Process) -> None:
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=30) in (0, -signal.SIGTERM)


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


@pytest.mark.parametrize("process", [{"max_requests_per_minute": 300.0}], indirect=True)
def test_of_a_flood_of_feedback_each_word_is_kept_or_refused(
    process: Process, tenant: Tenancy, stranger: Tenancy
) -> None:
    tenant.register_model()
    body = {"kind": "thumb", "image_id": tenant.draw(), "liked": True}
    pool = httpx.Limits(max_connections=32)
    with httpx.Client(base_url=process.url, limits=pool, timeout=60, trust_env=False) as client:

        def say(number: int) -> httpx.Response:
            word = body | {"user_ref": f"user-{number}"}
            return client.post("/api/feedback", json=word, headers=tenant.headers)

        with ThreadPoolExecutor(32) as callers:
            answers = [callers.submit(say, number) for number in range(2_000)]
            assert client.get("/api/jobs", headers=stranger.headers).status_code == httpx.codes.OK
            statuses = Counter(answer.result().status_code for answer in answers)
        refusals = [answer.result() for answer in answers if answer.result().status_code != httpx.codes.CREATED]
    assert set(statuses) == {httpx.codes.CREATED, httpx.codes.TOO_MANY_REQUESTS}
    assert statuses[httpx.codes.CREATED] >= 300
    assert {refusal.json()["code"] for refusal in refusals} == {"too_many_requests"}
    assert min(int(refusal.headers["Retry-After"]) for refusal in refusals) >= 1
    with tenant.runtime.database.transaction() as session:
        users = session.scalars(select(UserFeedback.user_ref)).all()
    said = [number for number, answer in enumerate(answers) if answer.result().status_code == httpx.codes.CREATED]
    assert sorted(users) == sorted(f"user-{number}" for number in said)
    assert '"level": "error"' not in process.log.read_text()


def test_pictures_that_take_for_ever_hold_nobody_else_up(process: Process, tenant: Tenancy, stranger: Tenancy) -> None:
    tenant.register_model()
    body = {"prompt": "a star", "init_image": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}
    api = psutil.Process(process.popen.pid)
    pool = httpx.Client(base_url=process.url, headers=tenant.headers, timeout=90, trust_env=False)
    with pool as client, ThreadPoolExecutor(60) as callers:

        def submit(times: int) -> list[Future[httpx.Response]]:
            return [callers.submit(client.post, "/api/generate", json=body) for _ in range(times)]

        while len(api.children()) < 2:  # as many as decode at once
            wait(submit(times=8))
        for decoder in api.children():
            decoder.suspend()
        answers = submit(times=60)
        wait_until(lambda: len(api.net_connections()) > 60)
        for path in ("/api/jobs", "/readyz"):
            answer = httpx.get(f"{process.url}{path}", headers=stranger.headers, timeout=20, trust_env=False)
            assert answer.status_code == httpx.codes.OK
        for decoder in api.children():
            decoder.resume()
        assert {answer.result().status_code for answer in answers} == {httpx.codes.ACCEPTED}


@pytest.mark.parametrize("process", [{"body_seconds": 1.0}], indirect=True)
def test_who_stalls_in_a_body_is_hung_up_on(process: Process, tenant: Tenancy) -> None:
    head = f"POST /api/generate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {tenant.key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    url = httpx.URL(process.url)
    with socket.create_connection((url.host, url.port), timeout=30) as caller:
        caller.sendall(head.encode())
        said = b"".join(iter(lambda: caller.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in said
    assert b"8192 bytes a second" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_decodes_pictures_starts_with_the_first_knows_nothing_and_ends_with_the_process(
    process: Process, tenant: Tenancy, number: signal.Signals
) -> None:
    api = psutil.Process(process.popen.pid)
    assert api.children() == []
    files = [("images", ("a.png", PNG)), ("images", ("b.png", PNG))]
    with httpx.Client(base_url=process.url, headers=tenant.headers, trust_env=False) as client:
        answer = client.post("/api/datasets", data={"name": "d"}, files=files)
        assert answer.status_code == httpx.codes.CREATED, answer.text
    [decoder] = api.children()
    assert decoder.cmdline()[2].endswith("image_decoder.py")
    assert decoder.environ() == {}
    process.popen.send_signal(number)
    process.popen.wait(timeout=30)
    await_end(decoder)


def refusals(log: Path) -> list[dict[str, Any]]:
    """What the log tells of requests that failed; one that took long is told of as well."""
    told = [json.loads(line) for line in log.read_text().splitlines() if '"answered"' in line]
    return [line for line in told if line["status"] >= 400]


def test_the_log_tells_of_what_went_wrong_and_of_nothing_that_is_somebodys(process: Process, tenant: Tenancy) -> None:
    tenant.register_model()
    image, wrong = tenant.draw(), make_key()
    secrets = ["sesquipedalian", "ada-of-the-accounts", tenant.key, wrong]
    with httpx.Client(base_url=process.url, headers=tenant.headers, trust_env=False) as client:
        prompt = {"prompt": "a sesquipedalian star", "user_ref": "ada-of-the-accounts"}
        assert client.post("/api/generate", json=prompt).status_code == httpx.codes.ACCEPTED
        assert (
            client.post("/api/generate", json={**prompt, "steps": -1}).status_code == httpx.codes.UNPROCESSABLE_CONTENT
        )
        headers = {"Authorization": f"Bearer {wrong}"}
        assert client.post("/api/generate", json=prompt, headers=headers).status_code == httpx.codes.UNAUTHORIZED
        assert client.delete("/api/users/ada-of-the-accounts/feedback").status_code == httpx.codes.OK
        url = client.get(f"/api/images/{image}").json()["url"]
        secrets.append(url.partition("signature=")[2])
        assert client.get(url).status_code == httpx.codes.OK
        assert client.get(f"{url}x").status_code == httpx.codes.UNAUTHORIZED
    wait_until(lambda: len(refusals(process.log)) == 3)  # said once the answer is on its way
    log, told = process.log.read_text(), refusals(process.log)
    assert [(line["method"], line["route"], line["status"]) for line in told] == [
        ("POST", "/api/generate", 422),
        ("POST", "/api/generate", 401),
        ("GET", "/api/images/{artifact_id}/content", 401),
    ]
    assert all(len(secret) > 10 for secret in secrets)
    assert [secret for secret in secrets if secret in log] == []
