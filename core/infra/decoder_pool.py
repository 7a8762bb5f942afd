"""The processes that decode foreign pictures, as the API sees them: started when needed, killed when they hang.

A decoder that breaks costs a process without secrets, and one picture. What such a process does: `image_decoder`.
"""

import atexit
import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import structlog

from core.domain.errors import Unavailable

_PROGRAM = Path(__file__).with_name("image_decoder.py")
_WORDS = ("unknown", "too_large", "animated", "broken")
_AWAY = "Pictures cannot be read at the moment."
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_MAX_LINE_BYTES = 200
_PIECE_BYTES = 2**18
_log = structlog.get_logger()


@dataclass(frozen=True)
class DecoderLimit:
    """What one process may use: bytes of address space, seconds by the clock for a picture, pictures before it goes.

    WebP takes most: 750 MB for a picture of 40 megapixels.
    """

    memory_bytes: int = 1280 * 2**20
    seconds: float = 30.0
    pictures: int = 500


@dataclass(frozen=True)
class Question:
    """How many bytes a picture has, how many pixels it may have, and how many are kept of it."""

    size: int
    max_pixels: int
    max_kept_pixels: int


@dataclass(frozen=True)
class Answer:
    """An RGB PNG and its sizes in pixels."""

    png: bytes
    width: int
    height: int


class NotDecodedError(Exception):
    """A picture is not taken. `problem` is one of `image_decoder`'s words, or `limits` where the process broke."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class DecoderPool:
    """At most `size` processes. Safe to share between threads; whoever finds no process free waits for one."""

    def __init__(self, limit: DecoderLimit | None = None, *, size: int = 2) -> None:
        self._limit = limit or DecoderLimit()
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._was_used = False

    @property
    def idle_pids(self) -> list[int]:
        """The processes that wait for a picture."""
        with self._lock:
            return [decoder.pid for decoder in self._idle]

    def decode(self, file: IO[bytes], question: Question) -> Answer:
        """Have a picture decoded.

        Raises:
            NotDecodedError: it is not taken.
            Unavailable: no process starts.
        """
        with self._slots:
            decoder = self._take()
            try:
                return decoder.decode(file, question)
            finally:
                self._give_back(decoder)

    def close(self) -> None:
        """End the processes that wait for a picture; the next picture starts a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.end()

    def _take(self) -> "_Decoder":
        with self._lock:
            if not self._was_used:
                atexit.register(self.close)
                self._was_used = True
            decoder = self._idle.pop() if self._idle else None
        if decoder is not None and not decoder.is_usable:  # killed while it waited
            decoder.end()
            decoder = None
        return decoder or _Decoder(self._limit)

    def _give_back(self, decoder: "_Decoder") -> None:
        if not decoder.is_usable:
            decoder.end()
            return
        with self._lock:
            self._idle.append(decoder)


class _Decoder:
    """One process."""

    def __init__(self, limit: DecoderLimit) -> None:
        self._seconds, self._pictures_left = limit.seconds, limit.pictures
        # The process ends by its own clock too, should nobody be left to kill it.
        numbers = (str(limit.memory_bytes), str(limit.seconds + _GRACE_SECONDS))
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM), *numbers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        except OSError as error:  # no memory, or no room for one more process
            _log.error("decoder_does_not_start", error=str(error))
            raise Unavailable(_AWAY) from error
        self._is_broken = False
        with self._killed_after(_START_SECONDS):
            is_ready = self._line() == {"ready": True}
        if not is_ready:
            self.end()
            _log.error("decoder_does_not_start", exit_code=self._popen.returncode)
            raise Unavailable(_AWAY)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_usable(self) -> bool:
        return not self._is_broken and self._pictures_left > 0 and self._popen.poll() is None

    def decode(self, file: IO[bytes], question: Question) -> Answer:
        self._pictures_left -= 1
        try:
            with self._killed_after(self._seconds):
                self._ask(file, question)
                return self._answer(question)
        except _Nonsense:
            self.end()
            _log.warning("decoder_broke", exit_code=self._popen.returncode, picture_bytes=question.size)
            raise NotDecodedError("limits") from None

    def end(self) -> None:
        self._is_broken = True
        with suppress(BrokenPipeError), self._popen:  # what is left unsent goes nowhere
            self._popen.kill()

    def _ask(self, file: IO[bytes], question: Question) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(asdict(question)).encode() + b"\n")
            shutil.copyfileobj(file, self._popen.stdin, _PIECE_BYTES)
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise _Nonsense from None

    def _answer(self, question: Question) -> Answer:
        """What the process says is believed no further than it can be checked: its decoder has read foreign bytes."""
        assert self._popen.stdout is not None
        match self._line():
            case {"problem": str(word)} if word in _WORDS:
                raise NotDecodedError(word)
            case {"size": int(size), "width": int(width), "height": int(height)}:
                if 0 < width * height <= question.max_kept_pixels and 0 < size <= 2**16 + 5 * width * height:
                    png = self._popen.stdout.read(size)
                    if len(png) == size and png.startswith(_beginning(width, height)):
                        return Answer(png, width, height)
        raise _Nonsense

    def _line(self) -> Any:
        assert self._popen.stdout is not None
        try:
            return json.loads(self._popen.stdout.readline(_MAX_LINE_BYTES))
        except ValueError:
            return None

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        def kill() -> None:
            self._is_broken = True
            self._popen.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


class _Nonsense(Exception):
    """The process ended, was killed, ran out of memory, or says what cannot be."""


def _beginning(width: int, height: int) -> bytes:
    """How an RGB PNG of this size begins."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
