"""Keeps programs running: brings back those that crash, and stops all of them in order."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cli.ledger import Ledger
from cli.process import Mark, Program, end, end_group, start

_GLANCE_SECONDS = 0.2
_LONG_LIFE_SECONDS = 60.0  # after such a life a crash counts as the first again
_LONGEST_WAIT_SECONDS = 30.0
_LEFTOVER_PATIENCE_SECONDS = 4.0


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    group: int
    started_at: float
    crashes: int = 0
    restart_at: float | None = None


class Supervisor:
    """Owns the processes of one data folder. `say` is told what a user should know, in whole sentences."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._say = say
        self._children: list[_Child] = []
        self._group = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def end_leftovers(self) -> None:
        """Stop what an earlier launcher that died left running over this folder."""
        left = [mark for mark in self._ledger.marks if mark.is_alive]
        if left:
            names = ", ".join(mark.name for mark in left)
            self._say(f"An earlier start did not end cleanly; stopping what it left: {names}.")
        for group in sorted({mark.group for mark in left}, reverse=True):
            end([mark for mark in left if mark.group == group], patience_seconds=_LEFTOVER_PATIENCE_SECONDS)
        self._ledger.clear()

    def start(self, programs: Sequence[Program], *, group: int | None = None) -> list[subprocess.Popen[bytes]]:
        """Start programs as one group, to be stopped together: a new one, or an earlier one that they join late."""
        with self._lock:
            number = group or self._group + 1
            self._group = max(self._group, number)
            for program in programs:
                process = start(program, self._ledger.add, group=number)
                self._children.append(_Child(program, process, number, time.monotonic()))
            return [child.process for child in self._children[-len(programs) :]] if programs else []

    def watch(self) -> None:
        """From now on, start a program again when it ends by itself."""
        self._thread.start()

    def crashes(self) -> dict[str, int]:
        """How often each program has crashed in a row."""
        with self._lock:
            return {child.program.name: child.crashes for child in self._children}

    def stop(self, *, hurry: threading.Event | None = None) -> None:
        """End every program: the last group first, each group together. `hurry` ends the wait for one group."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        marks = self._ledger.marks
        for group in range(self._group, 0, -1):
            self._end([mark for mark in marks if mark.group == group], group, hurry or threading.Event())
        for child in self._children:
            child.process.wait()
        self._children.clear()
        self._ledger.clear()

    def _end(self, marks: Sequence[Mark], group: int, hurry: threading.Event) -> None:
        patience = max(
            (child.program.patience_seconds for child in self._children if child.group == group), default=0.0
        )

        def on_wait(alive: Sequence[Mark]) -> None:
            names = " and ".join(mark.name for mark in alive)
            has, them = ("it has", "it") if len(alive) == 1 else ("they have", "them")
            self._say(
                f"Waiting for {names}, which may take {patience:.0f} s to finish what {has}. "
                f"Ctrl-C ends {them} at once."
            )

        hurry.clear()
        for mark in end(marks, patience_seconds=patience, hurry=hurry, on_wait=on_wait):
            how = "before it had finished" if hurry.is_set() else f"since it did not stop within {patience:.0f} s"
            self._say(f"{mark.name} was killed {how}.")

    def _watch(self) -> None:
        while not self._stopping.wait(_GLANCE_SECONDS):
            with self._lock:
                for child in self._children:
                    self._look_after(child)

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.restart_at is None:
            if child.process.poll() is not None:
                self._bury(child, now)
        elif now >= child.restart_at:
            self._restart(child, now)

    def _restart(self, child: _Child, now: float) -> None:
        try:
            child.process = start(child.program, self._ledger.add, group=child.group)
        except OSError as error:
            child.restart_at = now + _LONGEST_WAIT_SECONDS
            self._say(
                f"{child.program.name} cannot be started: {error}. Trying again in {_LONGEST_WAIT_SECONDS:.0f} s."
            )
        else:
            child.started_at, child.restart_at = now, None

    def _bury(self, child: _Child, now: float) -> None:
        end_group(child.process.pid)
        child.crashes = 1 if now - child.started_at > _LONG_LIFE_SECONDS else child.crashes + 1
        wait = min(_LONGEST_WAIT_SECONDS, 2.0 ** (child.crashes - 1))
        child.restart_at = now + wait
        code = child.process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._say(f"{child.program.name} {how}; starting it again in {wait:.0f} s. Its log is {child.program.log}.")
