"""Named points: armed by one process, met by exactly one passing of another."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos.point import OF_GENERATION, OF_TRAINING, Fate, Point, Points
from cli.process import birth
from tests.loop_bench import wait_until


def test_an_armed_point_is_met_once(tmp_path: Path) -> None:
    points = Points(tmp_path)
    assert points.take(Point.CLAIMED) is None
    trap = points.arm(Point.CLAIMED, Fate.DIE)
    assert trap.is_set
    assert (points.take(Point.BEFORE_PUT), points.take(Point.CLAIMED), points.take(Point.CLAIMED)) == (
        None,
        Fate.DIE,
        None,
    )
    assert not trap.is_set
    assert trap.victim == os.getpgrp()


def test_two_traps_at_a_point_are_met_by_two_that_pass_the_older_first(tmp_path: Path) -> None:
    points = Points(tmp_path)
    older, newer = points.arm(Point.BEFORE_PUT, Fate.DIE), points.arm(Point.BEFORE_PUT, Fate.FREEZE)
    assert points.take(Point.BEFORE_PUT) is Fate.DIE
    assert (older.is_set, newer.is_set) == (False, True)
    assert points.take(Point.BEFORE_PUT) is Fate.FREEZE
    assert points.take(Point.BEFORE_PUT) is None


def test_a_trap_that_is_lifted_was_met_by_nobody(tmp_path: Path) -> None:
    points = Points(tmp_path)
    trap = points.arm(Point.BEFORE_PUT, Fate.DIE)
    assert trap.lift()
    assert points.take(Point.BEFORE_PUT) is None
    met = points.arm(Point.BEFORE_PUT, Fate.DIE)
    assert points.take(Point.BEFORE_PUT) is Fate.DIE
    assert not met.lift()


def test_of_many_that_pass_at_once_one_meets_it(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.arm(Point.AFTER_PUT, Fate.DIE)
    with ThreadPoolExecutor(8) as pool:
        met = list(pool.map(lambda _: points.take(Point.AFTER_PUT), range(64)))
    assert [fate for fate in met if fate] == [Fate.DIE]


def test_a_disarmed_point_is_passed(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.arm(Point.CLAIMED, Fate.DIE)
    points.disarm(Point.CLAIMED)
    points.disarm(Point.CLAIMED)
    points.reach(Point.CLAIMED)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.arm(Point.BEFORE_CHECKPOINT, Fate.DISK_FULL)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        points.reach(Point.BEFORE_CHECKPOINT)


def test_death_is_that_of_the_whole_group(tmp_path: Path) -> None:
    Points(tmp_path).arm(Point.CLAIMED, Fate.DIE)
    code = (
        "import subprocess, sys; from pathlib import Path; from chaos.point import Point, Points\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
        "Points(Path(sys.argv[1])).reach(Point.CLAIMED)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.wait(30) == -signal.SIGKILL
    wait_until(lambda: birth(child) is None)


def test_every_point_is_somebodys() -> None:
    assert set(Point) == OF_GENERATION | OF_TRAINING
    assert Point.CLAIMED in OF_GENERATION
    assert {Point.CHECKPOINT_RENAMED, Point.ITS_COMMIT_SENT} <= OF_TRAINING
