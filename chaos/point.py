"""Named points in a worker's work at which it can die, freeze, or find its disk full.

A point is armed by a file of its name that holds what is to happen; the first to pass the point takes the file.
"""

import errno
import os
import signal
from enum import StrEnum
from pathlib import Path
from uuid import uuid4


class Point(StrEnum):
    """Where. Those of a checkpoint are in a training's process, all others in a generation worker."""

    BEFORE_CLAIM = "before the claim"
    CLAIMED = "claimed"
    BEFORE_PUT = "before a put"
    AFTER_PUT = "after a put"
    BEFORE_COMMIT = "before the commit"
    COMMIT_SENT = "commit sent"
    COMMIT_ACKNOWLEDGED = "commit acknowledged"
    BEFORE_CHECKPOINT = "before a checkpoint"
    CHECKPOINT_RENAMED = "checkpoint renamed"
    CHECKPOINT_UPLOADED = "checkpoint uploaded"
    CHECKPOINT_RECORDED = "checkpoint recorded"


OF_TRAINING = frozenset(point for point in Point if "checkpoint" in point)
OF_GENERATION = frozenset(Point) - OF_TRAINING


class Fate(StrEnum):
    """What."""

    DIE = "die"  # with the whole process group, as by kill -9
    DIE_ALONE = "die alone"
    FREEZE = "freeze"  # the whole group, until somebody thaws it
    DISK_FULL = "disk full"


class Points:
    """The points of one process, armed through a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arm(self, point: Point, fate: Fate) -> None:
        """The next to pass the point meets this fate."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / uuid4().hex
        draft.write_text(fate)
        draft.rename(self._folder / point)

    def is_armed(self, point: Point) -> bool:
        """Whether nobody has passed it since."""
        return (self._folder / point).exists()

    def disarm(self, point: Point) -> None:
        """Nothing happens at the point any more."""
        (self._folder / point).unlink(missing_ok=True)

    def take(self, point: Point) -> Fate | None:
        """What happens to this passing of the point; it then happens to no other."""
        mine = self._folder / uuid4().hex
        try:
            (self._folder / point).rename(mine)
        except FileNotFoundError:
            return None
        fate = Fate(mine.read_text())
        mine.unlink()
        return fate

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
