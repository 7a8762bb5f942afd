"""Zips of pictures and captions."""

import io
import json
import random
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping

import pytest

from core.domain.errors import InvalidInput
from core.infra import archive_file
from core.infra.archive_file import open_archive


def pack(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    buffer.seek(0)
    return buffer


def captions(files: Mapping[str, bytes]) -> dict[str, str]:
    with open_archive(pack(files)) as archive:
        return {name: archive.caption(name) for name in archive.names}


def test_captions_lie_beside_their_pictures() -> None:
    files = {"b.png": b"2", "a.jpg": b"1", "a.txt": "ein Stern ★\n".encode(), "sub/c.WEBP": b"3", "sub/c.txt": b"c"}
    assert captions(files) == {"a.jpg": "ein Stern ★", "b.png": "", "sub/c.WEBP": "c"}
    with open_archive(pack(files)) as archive:
        assert [archive.read(name) for name in archive.names] == [b"1", b"2", b"3"]


def test_captions_come_from_a_list() -> None:
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "b.png", "caption": "two", "more": 1}]
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    assert captions({"train/a.png": b"", "train/b.png": b"", "train/metadata.jsonl": lines}) == {
        "train/a.png": "one",
        "train/b.png": "two",
    }
    assert captions({"a.png": b"", "captions.json": b'{"a.png": "one"}'}) == {"a.png": "one"}


def test_what_operating_systems_leave_is_passed_over() -> None:
    assert captions({"a.png": b"", "__MACOSX/._a.png": b"", "x/.DS_Store": b"", "x/": b""}) == {"a.png": ""}


def linked() -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return buffer


def encrypted() -> io.BytesIO:
    content = bytearray(pack({"a.png": b"x"}).getvalue())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return io.BytesIO(bytes(content))


def doubled() -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.png", "1")
        archive.writestr("a.png", "2")
    return buffer


def overlapping() -> io.BytesIO:
    """Each claims nearly all of the file, as in a bomb that unpacks the same bytes many times."""
    content = bytearray(pack({"a.png": bytes(999), "b.png": bytes(999)}, zipfile.ZIP_STORED).getvalue())
    for at in (content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")):
        content[at + 20 : at + 24] = (len(content) - 100).to_bytes(4, "little")
    return io.BytesIO(bytes(content))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: io.BytesIO(b"no zip at all"), "not a zip"),
        (lambda: io.BytesIO(pack({"a.png": b"x"}).getvalue()[:-9]), "not a zip"),
        (lambda: pack({}), "no picture"),
        (lambda: pack({"a.txt": b"x"}), "no picture"),
        (lambda: pack({"../a.png": b"x"}), "leads out"),
        (lambda: pack({"/a.png": b"x"}), "leads out"),
        (lambda: pack({"a/../../b.png": b"x"}), "leads out"),
        (lambda: pack({"a\\..\\b.png": b"x"}), "leads out"),
        (lambda: pack({"C:/a.png": b"x"}), "leads out"),
        (linked, "link"),
        (encrypted, "encrypted"),
        (doubled, "two files"),
        (overlapping, "overlap"),
        (lambda: pack({"a.png": b"x", "more.zip": b"x"}), "neither"),
        (lambda: pack({"a.png": b"x", "run.exe": b"x"}), "neither"),
        (lambda: pack({"a.png": bytes(2**22)}), "packed"),
        (lambda: pack({"a.png": b"x"}, zipfile.ZIP_BZIP2), "packed in a way"),
        (lambda: pack({"a.png": b"x"}, zipfile.ZIP_LZMA), "packed in a way"),
        (lambda: pack({f"{n}.png": b"" for n in range(5001)}, zipfile.ZIP_STORED), "more than 5000"),
        (lambda: pack({f"{n}.txt": b"" for n in range(15_001)}, zipfile.ZIP_STORED), "more than 15000"),
        (lambda: pack({f"{n:03000}.txt": b"" for n in range(3000)}, zipfile.ZIP_STORED), "directory of more than"),
        (lambda: pack({f"{n}.txt": b"" for n in range(70_000)}, zipfile.ZIP_STORED), "more than 15000"),
        (lambda: pack({"a.png": b"", "metadata.jsonl": b"{"}), "not a list"),
        (lambda: pack({"a.png": b"", "captions.json": b"[" * 99_999}), "not a list"),
        (lambda: pack({"a.png": b"", "captions.json": b'{"a.png": 5}'}), "not a list"),
        (lambda: pack({"a.png": b"", "captions.json": b'{"a.png": "", "a.png": "b"}'}), "not a list"),
        (
            lambda: pack({"a.png": b"", "metadata.jsonl": b'{"file_name": "a.png", "text": "", "text": ""}'}),
            "not a list",
        ),
        (lambda: pack({"a.png": b"", "captions.json": b"[" * 500_001}, zipfile.ZIP_STORED), "500000 values"),
        (
            lambda: pack({"a.png": b"", "captions.json": b'{"b":"' + b'","' * 500_001}, zipfile.ZIP_STORED),
            "500000 values",
        ),
        (lambda: pack({"a.png": b"", "a.txt": b"\xff\xfe"}), "UTF-8"),
        (lambda: pack({"a.png": b"", "a.txt": bytes(70_000)}, zipfile.ZIP_STORED), "more than"),
    ],
)
def test_what_is_not_acceptable_is_refused(build: Callable[[], io.BytesIO], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason), open_archive(build()) as archive:
        [archive.caption(name) for name in archive.names]


def test_what_all_files_unpack_to_together_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may be as large as it is, and packed as well."""
    files = {"a.png": bytes(1000), "b.png": bytes(1000), "b.txt": b"b"}
    monkeypatch.setattr(archive_file, "_MAX_TOTAL_BYTES", 2001)
    assert captions(files) == {"a.png": "", "b.png": "b"}
    monkeypatch.setattr(archive_file, "_MAX_TOTAL_BYTES", 2000)
    with pytest.raises(InvalidInput, match="unpacks to more than 2000 bytes"):
        captions(files)


@pytest.mark.parametrize("name", ["a.png", "a.txt", "captions.json"])
def test_a_bomb_that_says_it_is_small_is_not_unpacked(name: str) -> None:
    """100 MB of zeros that are ten bytes by the directory."""
    content = bytearray(pack({"b.png": b"", "a.png": b""} | {name: bytes(100 * 2**20)}).getvalue())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="broken"), open_archive(io.BytesIO(bytes(content))) as archive:
            archive.caption("a.png")
            archive.read(name)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_many_lists_of_captions_are_read_no_further_than_one() -> None:
    """Each is as long as a list may be, and packs well; their captions are of pictures that are not there."""
    texts = random.Random(5)
    listed = json.dumps(
        {f"{number}.png": "🦜" + texts.randbytes(500).hex() for number in range(2_000)}, ensure_ascii=False
    ).encode()
    files = {f"{folder}/captions.json": listed for folder in range(5)}
    with (
        pytest.raises(InvalidInput, match="lists of captions of more than"),
        open_archive(pack({"a.png": b""} | files)),
    ):
        pass
    one = pack({"a.png": b"", "captions.json": listed})
    tracemalloc.start()
    try:
        with open_archive(one) as archive:
            assert archive.caption("a.png") == ""
            assert tracemalloc.get_traced_memory()[0] < 2**18
    finally:
        tracemalloc.stop()


def test_a_damaged_member_is_refused_when_it_is_read() -> None:
    content = bytearray(pack({"a.png": b"0123456789"}, zipfile.ZIP_STORED).getvalue())
    content[content.index(b"0123")] ^= 1
    with open_archive(io.BytesIO(bytes(content))) as archive, pytest.raises(InvalidInput, match="broken"):
        archive.read("a.png")
