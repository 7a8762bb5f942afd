"""Objects are removed many by a request, and what a store keeps is no secret."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from core.domain.errors import NotFound, Unavailable
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.plain_s3 import plain_s3


def test_many_objects_go_in_few_requests(store: ObjectStore) -> None:
    keys = [f"job/{number}/a b&c.png" for number in range(1003)]
    for key in [*keys, "other"]:
        store.put(key, b"x", content_type="x")
    sent: list[str] = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method))
    store.delete_many([*keys, "not there"])
    assert sent == ["POST", "POST"]
    assert [key for key, _ in store.list("")] == ["other"]
    store.delete_many([])


class Miser(BaseHTTPRequestHandler):
    """A store that removes nothing, and says so with a 200."""

    asked: list[dict[str, str]]

    def do_POST(self) -> None:
        self.asked.append(dict(self.headers))
        error = "<Error><Key>a</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        body = f"<DeleteResult>{error}</DeleteResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def miser() -> Iterator[ThreadingHTTPServer]:
    Miser.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Miser)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_store_that_keeps_an_object_is_not_believed(settings: Settings, miser: ThreadingHTTPServer) -> None:
    there = settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{miser.server_port}"})
    with pytest.raises(Unavailable, match="did not delete a file"):
        ObjectStore(there).delete_many(["a", "b"])
    assert "Content-MD5" in Miser.asked[0], "stores other than AWS ask for it"


def test_a_bucket_that_is_not_open_is_not_waited_for(settings: Settings, tmp_path: Path) -> None:
    with plain_s3({}, settings) as own_alone:
        store = ObjectStore(own_alone)
        with pytest.raises(NotFound, match="bucket others is not open to this service"):
            list(store.list("", bucket="others"))
        with pytest.raises(NotFound, match="model of the bucket others is not for this service"):
            store.download("model", tmp_path / "model", bucket="others")
        with pytest.raises(NotFound, match="No bucket is called not a bucket"):
            list(store.list("", bucket="not a bucket"))
