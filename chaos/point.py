"""Named points in a worker's work at which it can die, freeze, or find its disk full.

A trap at a point is a file in the point's folder that holds what is to happen; whoever passes the point takes the
oldest, so that each trap is met once and each passing meets one.
"""

import errno
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4


class Point(StrEnum):
    """Where. Those of a checkpoint, and `its` own, are in a training's process, all others in a generation worker."""

    BEFORE_CLAIM = "before the claim"
    CLAIMED = "claimed"
    BEFORE_PUT = "before a put"
    AFTER_PUT = "after a put"
    BEFORE_COMMIT = "before the commit"
    COMMIT_SENT = "commit sent"
    COMMIT_ACKNOWLEDGED = "commit acknowledged"
    BEFORE_CHECKPOINT = "before a checkpoint"
    CHECKPOINT_HALF_WRITTEN = "checkpoint half written"
    CHECKPOINT_RENAMED = "checkpoint renamed"
    BEFORE_CHECKPOINT_MANIFEST = "before a checkpoint's manifest"
    CHECKPOINT_UPLOADED = "checkpoint uploaded"
    CHECKPOINT_RECORDED = "checkpoint recorded"
    BEFORE_ITS_PUT = "before its put"
    AFTER_ITS_PUT = "after its put"
    BEFORE_ITS_COMMIT = "before its commit"
    ITS_COMMIT_SENT = "its commit sent"
    ITS_COMMIT_ACKNOWLEDGED = "its commit acknowledged"


OF_CHECKPOINT = frozenset(point for point in Point if "checkpoint" in point)
OF_TRAINING = OF_CHECKPOINT | {point for point in Point if "its" in point.split()}
OF_GENERATION = frozenset(Point) - OF_TRAINING


class Fate(StrEnum):
    """What."""

    DIE = "die"  # with the whole process group, as by kill -9
    DIE_ALONE = "die alone"
    FREEZE = "freeze"  # the whole group, until somebody thaws it
    DISK_FULL = "disk full"


@dataclass(frozen=True)
class Trap:
    """One fate that waits at a point. Its file is moved to `met` by whoever meets it."""

    path: Path
    met: Path

    @property
    def is_set(self) -> bool:
        """Whether nobody has met it yet."""
        return self.path.exists()

    @property
    def victim(self) -> int:
        """The process group that met it."""
        [found] = self.met.glob(f"{self.path.name}:*")
        return int(found.name.rpartition(":")[2])

    def lift(self) -> bool:
        """Take it away; whether it was still there."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True


class Points:
    """The points of one process, at which others set traps through a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._met = folder / "met"

    def arm(self, point: Point, fate: Fate) -> Trap:
        """One more passing of the point meets this fate."""
        for folder in (self._folder / point, self._met):
            folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / uuid4().hex
        draft.write_text(fate)
        trap = Trap(self._folder / point / f"{time.time_ns()}-{draft.name}", self._met)
        draft.rename(trap.path)
        return trap

    def disarm(self, point: Point) -> None:
        """Nothing happens at the point any more."""
        for trap in self._at(point):
            trap.lift()

    def take(self, point: Point) -> Fate | None:
        """What happens to this passing of the point; it then happens to no other."""
        for trap in self._at(point):
            mine = self._met / f"{trap.path.name}:{os.getpgrp()}"
            try:
                trap.path.rename(mine)
            except FileNotFoundError:
                continue  # somebody else passed at the same time
            return Fate(mine.read_text())
        return None

    def _at(self, point: Point) -> Iterator[Trap]:
        """The oldest first."""
        return (Trap(path, self._met) for path in sorted((self._folder / point).glob("*")))

    def reach(self, point: Point) -> None:
        """Meet what is armed here.

        Raises:
            OSError: the disk is full.
        """
        if fate := self.take(point):
            meet(fate)


def meet(fate: Fate) -> None:
    """Let it happen to this process.

    Raises:
        OSError: the disk is full.
    """
    match fate:
        case Fate.DIE:
            os.killpg(0, signal.SIGKILL)
        case Fate.DIE_ALONE:
            os.kill(os.getpid(), signal.SIGKILL)
        case Fate.FREEZE:
            os.killpg(0, signal.SIGSTOP)
        case Fate.DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
