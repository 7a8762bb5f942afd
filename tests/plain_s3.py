"""As much of S3 as one bucket takes, with every key that S3 has: the real server of the tests refuses the strangest."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from core.infra.settings import Settings

_ENTRY = "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"


@contextmanager
def plain_s3(objects: dict[str, bytes], settings: Settings) -> Iterator[Settings]:
    """Settings that lead to a store which holds `objects`; what is put there comes to them. No other bucket is open."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        @property
        def key(self) -> str:
            return unquote(urlsplit(self.path).path.removeprefix(f"/{settings.s3_bucket}").removeprefix("/"))

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if urlsplit(self.path).path.split("/")[1] != settings.s3_bucket:
                self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            elif not self.key:
                entries = [_ENTRY.format(key=quote(key), size=len(body)) for key, body in sorted(objects.items())]
                listing = f"<ListBucketResult><EncodingType>url</EncodingType>{''.join(entries)}</ListBucketResult>"
                self.answer(200, listing.encode())
            else:
                self.answer(200 if self.key in objects else 404, objects.get(self.key, b""))

        def do_PUT(self) -> None:
            objects[self.key] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"x"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{server.server_port}"})
    server.shutdown()
    server.server_close()
