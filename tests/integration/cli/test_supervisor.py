import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.ledger import Ledger
from cli.process import Program
from cli.supervisor import Supervisor

SAY_WHEN_STOPPED = """
import signal, sys, time
def stop(*_):
    with open({told!r}, "a") as file: file.write({name!r} + " ")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
open({ready!r}, "w").write("yes")
time.sleep(60)
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(Ledger(tmp_path / "embedded.json"), said.append)
    yield supervisor
    supervisor.stop()


def program(tmp_path: Path, name: str, code: str) -> Program:
    return Program(name=name, command=(sys.executable, "-c", code), log=tmp_path / f"{name}.log")


def wait_until(condition) -> None:  # type: ignore[no-untyped-def]
    while not condition():
        time.sleep(0.02)


def test_a_crashed_program_is_started_again_and_it_is_said(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    births = tmp_path / "births"
    code = f"import os, time; open({str(births)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
    supervisor.start([program(tmp_path, "worker", code)])
    supervisor.watch()
    wait_until(births.exists)
    wait_until(lambda: births.read_text().endswith("\n"))
    os.kill(int(births.read_text()), signal.SIGKILL)
    wait_until(lambda: births.read_text().count("\n") == 2)
    assert said == [f"worker was killed by signal 9; starting it again in 1 s. Its log is {tmp_path / 'worker.log'}."]
    assert supervisor.crashes() == {"worker": 1}


def test_the_wait_grows_with_each_crash(tmp_path: Path, supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start([program(tmp_path, "worker", "raise SystemExit(3)")])
    supervisor.watch()
    wait_until(lambda: len(said) == 2)
    assert "ended with code 3; starting it again in 1 s" in said[0]
    assert "ended with code 3; starting it again in 2 s" in said[1]


def test_groups_stop_in_the_reverse_of_their_start(tmp_path: Path, supervisor: Supervisor) -> None:
    told = tmp_path / "told"
    for name in ("servers", "workers", "api"):
        ready = tmp_path / name
        code = SAY_WHEN_STOPPED.format(told=str(told), name=name, ready=str(ready))
        supervisor.start([program(tmp_path, name, code)])
        wait_until(ready.exists)
    supervisor.stop()
    assert told.read_text().split() == ["api", "workers", "servers"]


def test_whoever_stops_learns_what_is_waited_for_and_a_second_ctrl_c_ends_that_alone(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    told, ready, hurry = tmp_path / "told", tmp_path / "ready", threading.Event()
    code = SAY_WHEN_STOPPED.format(told=str(told), name="server", ready=str(tmp_path / "server"))
    supervisor.start([program(tmp_path, "server", code)])
    deaf = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w')"
    slow = replace(program(tmp_path, "worker", f"{deaf}; time.sleep(600)"), patience_seconds=600)
    supervisor.start([slow])
    wait_until(ready.exists)
    wait_until((tmp_path / "server").exists)
    stopping = threading.Thread(target=supervisor.stop, kwargs={"hurry": hurry})
    stopping.start()
    wait_until(lambda: said)
    hurry.set()
    stopping.join()
    assert said == [
        "Waiting for worker, which may take 600 s to finish what it has. Ctrl-C ends it at once.",
        "worker was killed before it had finished.",
    ]
    assert told.read_text().split() == ["server"]


def test_what_a_dead_launcher_left_is_ended_in_order(tmp_path: Path, said: list[str]) -> None:
    told, ledger = tmp_path / "told", tmp_path / "embedded.json"
    dead = Supervisor(Ledger(ledger), lambda words: None)
    processes = []
    for name in ("servers", "api"):
        ready = tmp_path / name
        code = SAY_WHEN_STOPPED.format(told=str(told), name=name, ready=str(ready))
        processes += dead.start([program(tmp_path, name, code)])
        wait_until(ready.exists)
    next_one = Ledger(ledger)
    Supervisor(next_one, said.append).end_leftovers()
    assert [process.wait() for process in processes] == [0, 0]
    assert told.read_text().split() == ["api", "servers"]
    assert said == ["An earlier start did not end cleanly; stopping what it left: servers, api."]
    assert next_one.marks == []
