"""data/embedded.json: which ports, secrets and processes belong to this data folder."""

import dataclasses
import json
import os
import secrets
import socket
import threading
from pathlib import Path

from cli.process import Mark
from cli.refusal import Refusal


class Ledger:
    """Read at start, rewritten whole at each change. Belongs to the launcher that holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        self._marks: list[Mark] = []
        if path.exists():
            self._read()

    @property
    def marks(self) -> list[Mark]:
        """Every process written down, in the order they were started."""
        with self._lock:
            return list(self._marks)

    def port(self, name: str) -> int:
        """The loopback port of a server: the one it had, unless somebody took it."""
        port = self._ports.get(name)
        if port is None or not is_free("127.0.0.1", port):
            port = any_free_port()
        with self._lock:
            self._ports[name] = port
            self._write()
        return port

    def secret(self, name: str) -> str:
        """A password made once and kept."""
        with self._lock:
            if name not in self._secrets:
                self._secrets[name] = secrets.token_urlsafe(24)
                self._write()
            return self._secrets[name]

    def add(self, mark: Mark) -> None:
        """Write a process down, in place of an earlier one of its name."""
        with self._lock:
            self._marks = [m for m in self._marks if m.name != mark.name] + [mark]
            self._write()

    def clear(self) -> None:
        """Forget the processes, which have ended."""
        with self._lock:
            self._marks = []
            self._write()

    def _read(self) -> None:
        try:
            content = json.loads(self._path.read_text())
            self._ports, self._secrets = dict(content["ports"]), dict(content["secrets"])
            self._marks = [Mark(**mark) for mark in content["processes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(
                f"{self._path} is damaged. It holds the passwords of the servers in {self._path.parent}: restore it "
                f"from a backup, or move {self._path.parent} away and start again with an empty one."
            ) from error

    def _write(self) -> None:
        content = {
            "ports": self._ports,
            "secrets": self._secrets,
            "processes": [dataclasses.asdict(mark) for mark in self._marks],
        }
        write_private(self._path, json.dumps(content, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner only."""
    new = path.with_suffix(path.suffix + ".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
