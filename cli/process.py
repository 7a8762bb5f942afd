"""Programs that run beside the launcher: started once they are written down, known again, ended for certain."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

LONGEST_LOG_BYTES = 16 * 2**20
_GATE = 'read -r go && exec "$@" </dev/null'
_GLANCE_SECONDS = 0.05
_MOMENT_SECONDS = 1.0
_HAS_PROC = sys.platform.startswith("linux")


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to start, and how it likes to be stopped. `user` is the uid it runs as, where that is not ours."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: int | None = None
    stop_signal: int = signal.SIGTERM
    patience_seconds: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A process that can be told from a later one with the same id: `born` is when and in which boot it began.

    Groups are started in the order of their numbers, and stopped in the reverse.
    """

    name: str
    pid: int
    born: str
    group: int = 0
    stop_signal: int = signal.SIGTERM

    @property
    def is_alive(self) -> bool:
        return birth(self.pid) == self.born


def birth(pid: int) -> str | None:
    """When process `pid` began, in words that no other process shares; None where there is none, or a dead one."""
    if not _HAS_PROC:
        state, _, started = _ps(pid, "stat=,lstart=").partition(" ")
        return started.strip() if started and not state.startswith("Z") else None
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc_pid_stat(5): the name in brackets may hold anything; after it come state (3rd) … starttime (22nd).
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{_boot()}:{fields[19]}"


def command_line(pid: int) -> str:
    """What a process was started as; empty where there is none."""
    if not _HAS_PROC:
        return _ps(pid, "command=")
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ps(pid: int, columns: str) -> str:
    command = ["ps", "-o", columns, "-p", str(pid)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start(program: Program, write_down: Callable[[Mark], None], *, group: int = 0) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C in the terminal reaches only the launcher.

    It waits at a gate until `write_down` has recorded it: a launcher killed in between leaves nothing behind that
    its successor does not know of.
    """
    rotate(program.log)
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GATE, program.name, *program.command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(program.environment) or None,
            cwd=program.folder,
            user=program.user,
            group=program.user,
            extra_groups=None if program.user is None else [],
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        born, pid = birth(process.pid) or "", process.pid
        write_down(Mark(name=program.name, pid=pid, born=born, group=group, stop_signal=program.stop_signal))
    except BaseException:
        process.stdin.close()  # the gate stays shut
        process.wait()
        raise
    process.stdin.write(b"go\n")
    process.stdin.close()
    return process


def end(
    marks: Iterable[Mark],
    *,
    patience_seconds: float,
    hurry: threading.Event | None = None,
    on_wait: Callable[[Sequence[Mark]], None] = lambda _: None,
) -> list[Mark]:
    """Stop processes and all their children: politely together, then by force. Returns those that needed force.

    `hurry` ends the patience. `on_wait` is told once which of them take longer than a moment.
    """
    alive = [mark for mark in marks if mark.is_alive]
    for mark in alive:
        _signal(mark.pid, mark.stop_signal)
    began, is_told = time.monotonic(), False
    while stubborn := [mark for mark in alive if mark.is_alive]:
        waited = time.monotonic() - began
        if waited >= patience_seconds or (hurry is not None and hurry.is_set()):
            break
        if waited >= _MOMENT_SECONDS and not is_told:
            is_told = True
            on_wait(stubborn)
        time.sleep(_GLANCE_SECONDS)
    for mark in alive:
        _signal_group(mark.pid, signal.SIGKILL)
    while any(mark.is_alive for mark in stubborn):
        time.sleep(_GLANCE_SECONDS)
    return stubborn


def end_group(pid: int) -> None:
    """Kill what a process that has just ended, and led its group, left behind."""
    _signal_group(pid, signal.SIGKILL)


def rotate(log: Path, *, max_bytes: int = LONGEST_LOG_BYTES) -> None:
    """Put a long log aside; one older one is kept."""
    if log.exists() and log.stat().st_size > max_bytes:
        log.replace(log.with_suffix(".log.1"))


def tail(log: Path, *, lines: int = 1, having: str = "") -> str:
    """The last lines of a log that hold `having`."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2**16))
        text = file.read().decode(errors="replace")
    return "\n".join([line for line in text.splitlines() if line.strip() and having in line][-lines:])


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int, number: int) -> None:
    # The leader was ours and led its own group. While a member lives the group keeps the number, so it is never
    # somebody else's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
