import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.process import Mark, Program, birth, end, end_group, rotate, start, tail


def program(tmp_path: Path, code: str, **more: object) -> Program:
    command = (sys.executable, "-c", code)
    return Program(name="child", command=command, log=tmp_path / "child.log", **more)  # type: ignore[arg-type]


def wait_for(path: Path) -> str:
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    return path.read_text()


def test_a_recycled_pid_is_another_process() -> None:
    born = birth(os.getpid())
    assert born is not None
    assert Mark(name="me", pid=os.getpid(), born=born).is_alive
    assert not Mark(name="me", pid=os.getpid(), born=born + "0").is_alive


def test_a_program_is_written_down_before_it_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    marks: list[Mark] = []

    def write_down(mark: Mark) -> None:
        assert not ran.exists()
        marks.append(mark)

    process = start(program(tmp_path, f"open({str(ran)!r}, 'w').close()"), write_down)
    assert process.wait() == 0
    assert ran.exists()
    assert marks[0].pid == process.pid


def test_a_program_whose_launcher_fails_before_the_record_never_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    marks: list[Mark] = []

    def fail(mark: Mark) -> None:
        marks.append(mark)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        start(program(tmp_path, f"open({str(ran)!r}, 'w').close()"), fail)
    assert not marks[0].is_alive
    assert not ran.exists()


def test_a_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    process = start(program(tmp_path, "import time; time.sleep(60)"), lambda mark: None)
    assert os.getsid(process.pid) == process.pid
    end_group(process.pid)
    assert process.wait() == -signal.SIGKILL


def test_the_polite_are_asked_and_the_stubborn_killed(tmp_path: Path) -> None:
    marks: list[Mark] = []
    ready = tmp_path / "ready"
    polite = program(tmp_path, "import time; time.sleep(60)")
    deaf = program(
        tmp_path,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w').write('yes'); time.sleep(60)",
    )
    processes = [start(each, marks.append) for each in (polite, deaf)]
    wait_for(ready)
    stubborn = end(marks, patience_seconds=0.5)
    assert [mark.pid for mark in stubborn] == [processes[1].pid]
    assert [process.wait() for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]


def test_whoever_waits_learns_for_whom_and_may_have_it_ended_at_once(tmp_path: Path) -> None:
    ready, marks, hurry = tmp_path / "ready", list[Mark](), threading.Event()
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w').write('yes'); time.sleep(600)"
    )
    process = start(program(tmp_path, code), marks.append)
    wait_for(ready)
    awaited: list[Mark] = []

    def on_wait(alive: Sequence[Mark]) -> None:
        awaited.extend(alive)
        hurry.set()

    assert end(marks, patience_seconds=600, hurry=hurry, on_wait=on_wait) == marks
    assert awaited == marks
    assert process.wait() == -signal.SIGKILL


def test_grandchildren_end_with_their_parent(tmp_path: Path) -> None:
    marks: list[Mark] = []
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"open({str(told)!r}, 'w').write(str(c.pid)); time.sleep(60)"
    )
    process = start(program(tmp_path, code), marks.append)
    grandchild = int(wait_for(told))
    end(marks, patience_seconds=5)
    process.wait()
    while birth(grandchild) is not None:
        time.sleep(0.01)


def test_ending_what_has_ended_does_nothing() -> None:
    assert end([Mark(name="gone", pid=os.getpid(), born="another boot:1")], patience_seconds=0) == []


def test_a_long_log_is_put_aside_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x" * 100)
    rotate(log, max_bytes=99)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "x" * 100


def test_the_tail_is_the_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\nFATAL: two\nthree\n\n")
    assert tail(log) == "three"
    assert tail(log, having="FATAL") == "FATAL: two"
    assert tail(tmp_path / "none.log") == ""
