"""A zip of pictures and captions from outside, read under limits and never unpacked onto the disk."""

import json
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

from core.domain.dataset import MAX_IMAGES
from core.domain.errors import InvalidInput
from core.domain.json_object import unique

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_CAPTION_LISTS = ("metadata.jsonl", "captions.json")
_MAX_ENTRIES = 3 * MAX_IMAGES
_MAX_DIRECTORY_BYTES = 8 * 2**20
_MAX_ENTRY_BYTES = 64 * 2**20
_MAX_TOTAL_BYTES = 4 * 2**30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others, zipfile unpacks whole pieces without a bound."""

_MAX_RATIO = 100
_RATIO_MATTERS_FROM = 2**20
_MAX_LIST_BYTES = 8 * 2**20
"""Of all lists of captions together."""

_MAX_VALUES = 500_000
"""In them; in memory a value takes up to thirty times what it takes in a list."""

_MAX_CAPTION_BYTES = 64 * 1024
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError, RuntimeError)


class PictureArchive:
    """The pictures of a zip in the order of their names, each with its caption.

    Captions come from `metadata.jsonl` (`file_name` with `text` or `caption` on each line), from `captions.json`
    (file name → caption), or from a .txt of the picture's own name; a picture without any has an empty one.
    """

    def __init__(self, archive: zipfile.ZipFile, *, size: int) -> None:
        self._archive = archive
        entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_litter(entry.filename)]
        _check(entries, size=size)
        self._entries = {entry.filename: entry for entry in entries}
        self.names = sorted(name for name in self._entries if _suffix(name) in PICTURES)
        if not self.names:
            raise _refused(f"holds no picture ({', '.join(PICTURES)})")
        if len(self.names) > MAX_IMAGES:
            raise _refused(f"holds more than {MAX_IMAGES} pictures")
        self._listed = self._read_lists()

    def caption(self, name: str) -> str:
        """What the picture shows, as far as the archive says."""
        if name in self._listed:
            return self._listed[name]
        text = self._entries.get(str(PurePosixPath(name).with_suffix(".txt")))
        return "" if text is None else _decoded(text, self._read(text, _MAX_CAPTION_BYTES)).strip()

    def read(self, name: str) -> bytes:
        """The picture's bytes.

        Raises:
            InvalidInput: the archive is broken here.
        """
        return self._read(self._entries[name], _MAX_ENTRY_BYTES)

    def _read_lists(self) -> Mapping[str, str]:
        lists = [entry for entry in self._entries.values() if PurePosixPath(entry.filename).name in _CAPTION_LISTS]
        if sum(entry.file_size for entry in lists) > _MAX_LIST_BYTES:
            raise _refused(f"holds lists of captions of more than {_MAX_LIST_BYTES} bytes")
        captions: dict[str, str] = {}
        for entry in lists:
            folder = PurePosixPath(entry.filename).parent
            rows = ((str(folder / name), caption) for name, caption in self._rows(entry))
            captions |= {name: caption for name, caption in rows if name in self._entries}
        return captions

    def _rows(self, entry: zipfile.ZipInfo) -> Iterable[tuple[str, str]]:
        text = _decoded(entry, self._read(entry, _MAX_LIST_BYTES))
        if sum(map(text.count, "{[")) + text.count('"') // 2 > _MAX_VALUES:
            raise _refused(f"{entry.filename} holds more than {_MAX_VALUES} values")
        try:
            rows = (
                dict(_lines(text)) if entry.filename.endswith(".jsonl") else json.loads(text, object_pairs_hook=unique)
            )
            return [(name, _caption(caption)) for name, caption in rows.items()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _refused(f"{entry.filename} is not a list of file names and captions") from None

    def _read(self, entry: zipfile.ZipInfo, limit: int) -> bytes:
        if entry.file_size > limit:
            raise _refused(f"{entry.filename} has more than {limit} bytes")
        # Asked for all at once, zipfile would unpack all that is there, whatever the directory says.
        with _explained(entry.filename), self._archive.open(entry) as member:
            return member.read(entry.file_size)


@contextmanager
def open_archive(file: IO[bytes]) -> Iterator[PictureArchive]:
    """Open a zip of pictures.

    Raises:
        InvalidInput: no zip, or one that is broken, encrypted, nested, too large, or leads out of itself; the field
            is `archive`.
    """
    bounded = _Bounded(file)
    try:
        archive = zipfile.ZipFile(bounded)
    except _BROKEN:
        raise _refused("is not a zip file, or is cut short") from None
    bounded.is_open = True
    with archive:
        yield PictureArchive(archive, size=file.seek(0, 2))


class _Bounded:
    """A file of which zipfile cannot read a directory of any size: it would make an object of every entry."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.is_open = False

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes.

        Raises:
            InvalidInput: it is the directory, and that is too large.
        """
        if not self.is_open and size > _MAX_DIRECTORY_BYTES:
            raise _refused(f"has a directory of more than {_MAX_DIRECTORY_BYTES} bytes")
        return self._file.read(size)


def _check(entries: list[zipfile.ZipInfo], *, size: int) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise _refused(f"holds more than {_MAX_ENTRIES} files")
    if len({entry.filename for entry in entries}) < len(entries):
        raise _refused("holds two files of one name")
    for entry in entries:
        if reason := _objection(entry):
            raise _refused(f"{entry.filename[:200]!r} {reason}")
    if sum(entry.compress_size for entry in entries) > size:
        raise _refused("holds files that overlap")
    if sum(entry.file_size for entry in entries) > _MAX_TOTAL_BYTES:
        raise _refused(f"unpacks to more than {_MAX_TOTAL_BYTES} bytes")


def _objection(entry: zipfile.ZipInfo) -> str | None:
    path, mode = PurePosixPath(entry.filename), entry.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
        return "leads out of the archive"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or a device, not a file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return "is packed in a way that is not read here: use deflate, or none"
    if entry.file_size > _MAX_ENTRY_BYTES:
        return f"has more than {_MAX_ENTRY_BYTES} bytes"
    if entry.file_size > max(_RATIO_MATTERS_FROM, _MAX_RATIO * entry.compress_size):
        return f"is packed more than {_MAX_RATIO} times"
    if path.name not in _CAPTION_LISTS and _suffix(entry.filename) not in (*PICTURES, ".txt"):
        return f"is neither a picture ({', '.join(PICTURES)}) nor a caption (.txt, {', '.join(_CAPTION_LISTS)})"
    return None


def _is_litter(name: str) -> bool:
    """What operating systems leave in folders."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or (bool(parts) and parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini"))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _lines(text: str) -> Iterator[tuple[str, Any]]:
    for line in text.splitlines():
        if line.strip():
            row = json.loads(line, object_pairs_hook=unique)
            yield row["file_name"], row["text"] if "text" in row else row["caption"]


def _caption(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _decoded(entry: zipfile.ZipInfo, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused(f"{entry.filename} is not UTF-8 text") from None


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN:
        raise _refused(f"{name} is broken") from None


def _refused(reason: str) -> InvalidInput:
    return InvalidInput.of("archive", reason)
