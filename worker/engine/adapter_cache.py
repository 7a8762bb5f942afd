"""Adapter files on the local disk: named by their content, bounded in size, oldest use out first."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from core.domain.errors import AdapterUnusable, NotFound
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings

GRACE_SECONDS = 600.0
"""A file used so lately is never removed: a request may be about to read it."""


class AdapterCache:
    """Safe to share between threads and between processes. A file that exists is whole and has its digest."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._folder = settings.cache_dir / "adapter"
        self._max_bytes = settings.adapter_cache_bytes
        self._store = store

    def fetch(self, *, sha256: str, object_key: str) -> Path:
        """The file with that digest, from the disk or else from the store.

        Raises:
            AdapterUnusable: the store has no such file, or another one under its key.
            Unavailable: the store is not reachable.
        """
        path = self._folder / f"{sha256}.safetensors"
        try:
            os.utime(path)
        except FileNotFoundError:
            self._download(object_key, path, sha256)
            self._make_room()
        return path

    def _download(self, object_key: str, path: Path, sha256: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix="draft-", dir=self._folder)) / path.name
        try:
            self._store.download(object_key, draft)
            with draft.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != sha256:
                raise AdapterUnusable(f"The adapter's file has the digest {digest} instead of {sha256}.")
            draft.rename(path)
        except NotFound as error:
            raise AdapterUnusable("The adapter's file is gone.") from error
        finally:
            draft.unlink(missing_ok=True)
            draft.parent.rmdir()

    def _make_room(self) -> None:
        files = []
        for path in self._folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):  # another process makes room, too
                files.append((path, path.stat()))
        excess = sum(stat.st_size for _, stat in files) - self._max_bytes
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime):
            if excess <= 0 or stat.st_mtime > time.time() - GRACE_SECONDS:
                return
            with suppress(FileNotFoundError):
                path.unlink()
            excess -= stat.st_size
