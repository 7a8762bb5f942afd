"""What was accepted and what happened, each on the disk before anybody relies on it."""

import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Journal:
    """Lines of JSON, synced one by one. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, **entry: Any) -> None:
        """Add an entry; it is on the disk when this returns."""
        with self._lock:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def entries(self) -> list[dict[str, Any]]:
        """Every entry that was written whole."""
        lines = self._path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]
