"""Fetched base models on the local disk: each whole or not there, bounded in size, the least lately used out first."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from core.domain.errors import JobStopped, Unavailable
from worker.file_lock import took

_TICK_SECONDS = 0.2
_ABANDONED_SECONDS = 86400.0
_ROOM = "room"


@dataclass(frozen=True)
class Fetching:
    """How a model is fetched into `part`, where an earlier try may have left files that are whole.

    `reserve(size)` comes before the bytes do, `on_file` before each file, and `heed` as often as it can be asked; what
    they raise ends the fetching.
    """

    part: Path
    reserve: Callable[[int], None]
    on_file: Callable[[], None]
    heed: Callable[[], None]


class ModelCache:
    """Safe to share between threads and between processes, by a lock for each model; its file says the model's size.

    What somebody holds is never removed. What was loaded and let go of may be: mapped files outlive their names.
    """

    def __init__(self, root: Path, *, most_bytes: int) -> None:
        self._root, self._most_bytes = root, most_bytes

    @contextmanager
    def hold(
        self,
        name: str,
        fetch: Callable[[Fetching], None],
        *,
        on_file: Callable[[], None] = lambda: None,
        heed: Callable[[], None] = lambda: None,
    ) -> Iterator[Path]:
        """The model's folder, there for as long as it is held; fetched where it is not there, by one of those who ask.

        Raises:
            Unavailable: there is no room beside what others hold.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        folder = self._root / name
        while True:
            with self._locked(name, fcntl.LOCK_SH, heed):
                if folder.is_dir():
                    os.utime(folder)
                    yield folder
                    return
            with self._locked(name, fcntl.LOCK_EX, heed):
                if not folder.is_dir():
                    part = self._part(name)
                    part.mkdir(exist_ok=True)
                    self._fetch(
                        name, fetch, Fetching(part, lambda size: self._reserve(name, size, heed), on_file, heed)
                    )

    def forget(self, name: str) -> bool:
        """Remove a model unless somebody holds or fetches it; whether it is gone."""
        self._root.mkdir(parents=True, exist_ok=True)
        with self._path(name).open("a") as file:
            if not (took(file, fcntl.LOCK_EX) and _is_at(file, self._path(name))):
                return False
            self._clear(name)
        return True

    def sweep(self) -> None:
        """Remove what fetches left behind that nobody has gone on with for a day."""
        for part in self._root.glob("*.part"):
            if time.time() - _used_at(part) > _ABANDONED_SECONDS:
                self.forget(part.stem)

    def _fetch(self, name: str, fetch: Callable[[Fetching], None], fetching: Fetching) -> None:
        try:
            fetch(fetching)
        except (JobStopped, Unavailable):
            raise  # another run goes on with what is there
        except Exception:
            self._clear(name)
            raise
        shutil.rmtree(fetching.part / ".cache", ignore_errors=True)
        fetching.part.rename(self._root / name)

    def _reserve(self, name: str, size: int, heed: Callable[[], None]) -> None:
        with self._locked(_ROOM, fcntl.LOCK_EX, heed):
            others = {other: size for other, size in self._sizes().items() if other != name}
            excess = sum(others.values()) + size - self._most_bytes
            for other in sorted(others, key=self._last_use):
                if excess > 0 and self.forget(other):
                    excess -= others[other]
            if excess > 0:
                raise Unavailable("There is no room for the base model beside those in use.")
            self._path(name).write_text(str(size))

    def _sizes(self) -> dict[str, int]:
        names = {path.name.removesuffix(".part") for path in self._root.iterdir() if path.is_dir()}
        return {name: _read_size(self._path(name)) for name in names}

    def _last_use(self, name: str) -> float:
        return max(_used_at(self._root / name), _used_at(self._part(name)))

    def _clear(self, name: str) -> None:
        """Only by whoever has the lock alone. A folder is renamed first: it is whole as long as it is there."""
        part, folder = self._part(name), self._root / name
        shutil.rmtree(part, ignore_errors=True)
        if folder.is_dir():
            folder.rename(part)
            shutil.rmtree(part, ignore_errors=True)
        self._path(name).unlink(missing_ok=True)

    def _part(self, name: str) -> Path:
        return self._root / f"{name}.part"

    def _path(self, name: str) -> Path:
        return self._root / f"{name}.lock"

    @contextmanager
    def _locked(self, name: str, kind: int, heed: Callable[[], None]) -> Iterator[None]:
        path = self._path(name)
        while True:
            with path.open("a") as file:
                if took(file, kind) and _is_at(file, path):
                    yield
                    return
            heed()
            time.sleep(_TICK_SECONDS)


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether it is the lock still: it goes with its model, and who waited for it then has one of nothing."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read_size(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0  # its fetching ended before it had a size
