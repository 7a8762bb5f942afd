"""The load balancer of the upgrades: to who is ready, and to nobody who ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2 as httpx

from chaos.balancer import Balancer
from tests.loop_bench import wait_until


@contextmanager
def backend(name: str) -> Iterator[ThreadingHTTPServer]:
    """Answers with its name; `server.ready` says whether it says that it is ready."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_fine = self.path != "/readyz" or server.ready  # type: ignore[attr-defined]
            self.send_response(200 if is_fine else 503)
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ready = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def url_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def answers(balancer: Balancer, count: int = 12) -> list[str]:
    headers = {"Connection": "close"}
    return [httpx.get(balancer.url, headers=headers, trust_env=False).text for _ in range(count)]


def test_all_that_are_ready_get_their_part() -> None:
    with backend("a") as a, backend("b") as b, Balancer([url_of(a), url_of(b)]) as balancer:
        wait_until(lambda: len(balancer.ready) == 2)
        found = answers(balancer)
        assert (found.count("a"), found.count("b")) == (6, 6)


def test_who_says_that_it_ends_gets_nothing() -> None:
    with backend("a") as a, backend("b") as b, Balancer([url_of(a), url_of(b)]) as balancer:
        wait_until(lambda: len(balancer.ready) == 2)
        a.ready = False  # type: ignore[attr-defined]
        wait_until(lambda: len(balancer.ready) == 1)
        assert set(answers(balancer)) == {"b"}
        a.ready = True  # type: ignore[attr-defined]
        wait_until(lambda: len(balancer.ready) == 2)
        assert set(answers(balancer)) == {"a", "b"}


def test_a_backend_that_takes_nobody_costs_nobody_his_answer() -> None:
    with backend("a") as a, backend("b") as b, Balancer([url_of(a), url_of(b)]) as balancer:
        wait_until(lambda: len(balancer.ready) == 2)
        b.shutdown()
        b.server_close()
        assert set(answers(balancer)) == {"a"}
