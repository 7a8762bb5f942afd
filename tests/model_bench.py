"""Base models in their places: a handle for each, and a hub that serves one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

from core.domain.base_model import LoadOptions, ModelHandle
from worker.engine.model_source import hold_model

REVISION = "0123456789abcdef0123456789abcdef01234567"


def handle(source: str, revision: str | None = None) -> ModelHandle:
    return ModelHandle(uuid4(), "tiny", source, revision, LoadOptions())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetch(model: ModelHandle, **how: Any) -> Path:
    with hold_model(model, **how) as folder:
        return folder


class Hub:
    """As much of a hub's HTTP interface as listing and fetching the files of one commit takes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.files = files
        self.stuck_at: str | None = None
        self.trouble: int | None = None
        """What it answers when a file is asked for; 0 breaks the connection off."""
        self.is_stuck, self.goes_on = threading.Event(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(handler) -> None:
                handler.answer(with_body=False)

            def do_GET(handler) -> None:
                handler.answer(with_body=True)

            def answer(handler, *, with_body: bool) -> None:
                path = handler.path.partition("?")[0]
                self.tokens.add(handler.headers["Authorization"])
                if with_body:
                    self.asked.append(path)
                status, body = self.find(path)
                if not status:
                    return
                handler.send_response(status)
                if status == 404:
                    handler.send_header("X-Error-Code", "RepoNotFound")
                handler.send_header("Content-Length", str(len(body)))
                handler.send_header("ETag", f'"{hash(body)}"')
                handler.send_header("X-Repo-Commit", REVISION)
                handler.end_headers()
                if with_body and self.stuck_at and path.endswith(f"/{self.stuck_at}"):
                    self.is_stuck.set()
                    assert self.goes_on.wait(60)
                if with_body:
                    handler.wfile.write(body)

            def log_message(handler, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def find(self, path: str) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        if path == f"/api/models/owner/name/tree/{REVISION}" and self.files:
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": "0" * 40}
                for file, content in self.files.items()
            ]
            return 200, json.dumps(entries).encode()
        body = self.files.get(path.removeprefix(f"/owner/name/resolve/{REVISION}/"))
        if self.trouble is not None:
            return self.trouble, b""
        return (404, b"") if body is None else (200, body)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"
