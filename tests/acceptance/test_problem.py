"""Bad input to the running system: a clear problem, no job, nothing lost."""

import socket
from urllib.parse import urlsplit

import httpx2 as httpx

from cli.system import System
from tests.acceptance.http import call

JSON = {"Content-Type": "application/json"}


def jobs(system: System) -> list[str]:
    return [job["id"] for job in call(system, "GET", "/api/jobs?limit=100").json()["items"]]


def test_bad_input_makes_no_job(stack: System) -> None:
    before = jobs(stack)
    bodies = [b"{", b"[" * 10_000, b'{"prompt": "a", "prompt": "b"}', b'{"prompt": "a", "steps": NaN}', b"\xff", b"{}"]
    for body in bodies:
        answer = call(stack, "POST", "/api/generate", content=body, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), body
        assert answer.json()["errors"]
    assert jobs(stack) == before


def test_a_body_that_is_too_large_is_refused_before_it_is_read(stack: System) -> None:
    place = urlsplit(stack.client.url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        head = f"POST /api/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n"
        connection.sendall(f"{head}Content-Type: application/zip\r\nContent-Length: {2**40}\r\n\r\n".encode())
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "application/problem+json" in answer


def test_who_has_no_key_learns_nothing(stack: System) -> None:
    for path in ("/api/jobs", "/api/models", "/api/adapters", "/api/datasets"):
        answer = httpx.get(f"{stack.client.url}{path}", trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert httpx.get(f"{stack.client.url}/docs", trust_env=False).status_code == 200
