"""The processes that decode foreign pictures: what they may use, what they know, and that none is left behind."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image

from cli.environment import ROOT
from core.domain.errors import InvalidInput, Unavailable
from core.infra import decoder_pool
from core.infra.decoder_pool import DecoderLimit, DecoderPool, NotDecodedError, Question
from core.infra.image_file import MAX_BYTES, CheckedImage, check_image


def encode(width: int = 40, height: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


GOOD = encode()


@contextmanager
def pool_of(size: int = 2, **limits: float) -> Iterator[DecoderPool]:
    pool = DecoderPool(DecoderLimit(**limits), size=size)  # type: ignore[arg-type]
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    with pool_of() as pool:
        yield pool


def check(pool: DecoderPool, content: bytes = GOOD) -> CheckedImage:
    return check_image(io.BytesIO(content), max_kept_pixels=10**8, pool=pool)


def started(pool: DecoderPool) -> psutil.Process:
    """The pool's only process, after a picture."""
    check(pool)
    [pid] = pool.idle_pids
    return psutil.Process(pid)


def await_end(process: psutil.Process) -> None:
    """Until nothing runs under this id; who has nobody to wait for it stays as a zombie."""
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def refused(pool: DecoderPool, content: bytes = GOOD) -> None:
    with pytest.raises(InvalidInput, match="cannot be decoded within the limits") as raised:
        check(pool, content)
    assert [problem.field for problem in raised.value.problems] == ["image"]


def test_nothing_starts_before_the_first_picture_and_one_serves_many(pool: DecoderPool) -> None:
    assert pool.idle_pids == []
    process = started(pool)
    assert started(pool) == process


def test_two_at_a_time_at_most() -> None:
    with pool_of(size=2) as pool:
        threads = [threading.Thread(target=check, args=(pool, encode(1500, 1500))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 <= len(pool.idle_pids) <= 2


def test_a_process_knows_no_secret_and_holds_nothing_of_ours(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABASE_URL", "S3_SECRET_ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.setenv(name, "secret")
    with (tmp_path / "open").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        process = started(pool)
        assert process.environ() == {}
        descriptors = {each.name: str(each.readlink()) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert set(descriptors) == {"0", "1", "2"}
    assert descriptors["2"] == "/dev/null"
    assert all(descriptors[each].startswith("pipe:") for each in "01")
    assert process.cwd() == "/"


def test_a_process_is_limited(pool: DecoderPool) -> None:
    process = started(pool)
    for kind, limit in (
        (psutil.RLIMIT_AS, DecoderLimit().memory_bytes),
        (psutil.RLIMIT_FSIZE, 0),
        (psutil.RLIMIT_CORE, 0),
        (psutil.RLIMIT_NOFILE, 0),
    ):
        assert process.rlimit(kind) == (limit, limit)


def test_a_picture_within_the_pixels_but_beyond_the_memory() -> None:
    with pool_of(memory_bytes=160 * 2**20) as pool:
        process = started(pool)
        refused(pool, encode(6000, 6000))
        assert not process.is_running()
        assert started(pool) != process


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_the_largest_picture_is_within_the_limits(pool: DecoderPool, form: str) -> None:
    buffer = io.BytesIO()
    options = {"lossless": True, "method": 0} if form == "WEBP" else {}
    picture = Image.new("RGB" if form == "JPEG" else "RGBA", (6400, 6250), "teal")
    picture.save(buffer, form, **options)
    checked = check_image(buffer, max_kept_pixels=2**20, pool=pool)
    assert checked.width * checked.height <= 2**20


@contextmanager
def held(process: psutil.Process) -> Iterator[None]:
    """A process that does nothing more, as a decoder that is caught in its picture."""
    process.suspend()
    try:
        yield
    finally:
        if process.is_running():
            process.resume()


def test_one_that_hangs_is_killed_and_the_next_picture_has_another() -> None:
    with pool_of(seconds=0.5) as pool, held(process := started(pool)):
        refused(pool)
        assert not process.is_running()
        assert pool.idle_pids == []
    with pool_of() as pool:
        check(pool)


def test_one_that_reads_no_more_is_killed_too() -> None:
    with pool_of(seconds=0.5) as pool, held(process := started(pool)):
        refused(pool, GOOD + bytes(2**20))  # more than a pipe holds
        assert not process.is_running()


class Watched(io.BytesIO):
    """Says when the process is being sent what is in it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.is_read = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.is_read.set()
        return super().read(size)


def test_one_that_is_killed_over_its_picture_costs_that_picture_only(pool: DecoderPool) -> None:
    process = started(pool)
    problems: list[str] = []
    picture = Watched(GOOD)

    def ask() -> None:
        with pytest.raises(NotDecodedError) as raised:
            pool.decode(picture, Question(len(GOOD), 10**6, 10**6))
        problems.append(raised.value.problem)

    with held(process):
        asker = threading.Thread(target=ask)
        asker.start()
        picture.is_read.wait()
        process.kill()
        asker.join()
    assert problems == ["limits"]
    assert started(pool) != process


def test_one_that_died_while_it_waited_costs_nothing(pool: DecoderPool) -> None:
    process = started(pool)
    process.kill()
    await_end(process)
    assert started(pool) != process


def test_a_process_gives_way_after_some_pictures() -> None:
    with pool_of(pictures=3) as pool:
        first = started(pool)
        assert started(pool) == first
        check(pool)
        assert not first.is_running()
        assert pool.idle_pids == []
        assert started(pool) != first


def test_closing_ends_them_and_a_later_picture_starts_one(pool: DecoderPool) -> None:
    process = started(pool)
    pool.close()
    assert not process.is_running()
    assert started(pool) != process


NUMBERS = {"size": 70, "width": 40, "height": 24}
LINES = {
    "nothing": b"",
    "no JSON": b"{\n",
    "no object": b"[]\n",
    "an endless line": b" " * 10_000,
    "an unknown problem": b'{"problem": "mine"}\n',
    "no picture at all": json.dumps(NUMBERS).encode() + b"\n" + bytes(70),
    "less than it says": json.dumps(NUMBERS).encode() + b"\n" + GOOD[:69],
    "more pixels than are kept": json.dumps(NUMBERS | {"width": 10**6, "height": 10**6}).encode() + b"\n" + GOOD,
    "more bytes than pixels": json.dumps(NUMBERS | {"size": 2**40}).encode() + b"\n" + GOOD,
    "no pixels": json.dumps(NUMBERS | {"width": 0}).encode() + b"\n" + GOOD,
    "another size than its header": json.dumps(NUMBERS | {"width": 24, "height": 40}).encode() + b"\n" + GOOD,
}


@pytest.mark.parametrize("line", LINES)
def test_what_a_process_says_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    program = tmp_path / "taken_over.py"
    program.write_text(
        "import os, sys\nsys.stdout.buffer.write(b'{\"ready\": true}\\n')\nsys.stdout.flush()\n"
        f"sys.stdin.buffer.readline()\nos.write(1, {LINES[line]!r})\n"
    )
    monkeypatch.setattr(decoder_pool, "_PROGRAM", program)
    with pool_of() as pool:
        refused(pool)


def test_one_that_does_not_start_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decoder_pool, "_PROGRAM", tmp_path / "not there.py")
    with pool_of() as pool:
        with pytest.raises(Unavailable):
            check(pool)
        assert pool.idle_pids == []


def test_nor_is_one_that_the_system_has_no_room_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "not there"))
    with pool_of() as pool:
        with pytest.raises(Unavailable, match="cannot be read at the moment"):
            check(pool)
        assert pool.idle_pids == []


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


PARENT = """
import io, sys, time
from core.infra import image_file
image_file.check_image(io.BytesIO(bytes.fromhex(sys.argv[1])), max_kept_pixels=100)
print(image_file._POOL.idle_pids[0], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_none_is_left_behind(is_killed: bool) -> None:
    command = [sys.executable, "-c", PARENT, GOOD.hex()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        process = psutil.Process(int(pipe(parent.stdout).readline()))
        if is_killed:
            parent.kill()
        pipe(parent.stdin).close()
        await_end(process)
    assert parent.returncode == (-signal.SIGKILL if is_killed else 0)


def test_a_file_of_too_many_bytes_is_not_even_sent(pool: DecoderPool, tmp_path: Path) -> None:
    with (tmp_path / "large").open("w+b") as file:
        file.truncate(MAX_BYTES + 1)
        with pytest.raises(InvalidInput, match=f"at most {MAX_BYTES} bytes"):
            check_image(file, max_kept_pixels=100, pool=pool)
    assert pool.idle_pids == []


def test_the_digest_is_of_what_is_kept(pool: DecoderPool) -> None:
    checked = check(pool)
    assert checked.sha256 == hashlib.sha256(checked.png).hexdigest()
