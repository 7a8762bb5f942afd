"""`lorikeet up` as a user starts it, stops it, and loses it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from cli.environment import ROOT
from cli.ledger import Ledger, any_free_port
from cli.process import Mark
from core.infra.settings import Settings

Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def launch(data: Path) -> Iterator[Launch]:
    """Starts `lorikeet up` over one data folder and on one port."""
    names = {field.upper() for field in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    port = str(any_free_port())
    launched: list[subprocess.Popen[str]] = []

    def launch(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", *arguments],
            cwd=data.parent,
            env={**kept, "DATA_DIR": str(data), "PORT": port, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        launched.append(process)
        return process

    yield launch
    for process in launched:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate()


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was never said, but:\n{said}")


def marks(data: Path) -> list[Mark]:
    return Ledger(data / "embedded.json").marks


@pytest.mark.timeout(900)
def test_up_makes_a_picture_and_survives_the_loss_of_its_launcher(data: Path, launch: Launch) -> None:
    first = launch()
    said = read_until(first, "Ctrl-C stops everything")
    key = (data / "api_key").read_text().strip()
    assert f"Your API key is in {data / 'api_key'}" in said
    assert key not in said, "what reads along is no terminal"
    with Image.open(data / "first-image.png") as picture:
        assert picture.size == (64, 64)

    second = launch()
    assert f"already running over {data}: pid {first.pid}" in second.communicate()[0]
    assert second.returncode == 1

    first.kill()
    first.communicate()
    left = marks(data)
    assert {mark.name for mark in left if mark.is_alive} >= {"postgres", "valkey", "s3", "api", "worker-generation"}

    third = launch("--once")
    said = third.communicate()[0]
    assert third.returncode == 0, said
    assert "stopping what it left: postgres, valkey, s3" in said
    assert "The first picture" in said
    assert key not in said
    assert not [mark for mark in left if mark.is_alive]
    assert marks(data) == []


@pytest.mark.timeout(900)
def test_ctrl_c_while_it_starts_leaves_nothing_behind(data: Path, launch: Launch) -> None:
    process = launch()
    while not (data / "embedded.json").exists() or not marks(data):
        assert process.poll() is None
    started = marks(data)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert not [mark for mark in started if mark.is_alive]
    assert marks(data) == []


def test_a_taken_port_is_one_sentence(data: Path) -> None:
    data.parent.mkdir(exist_ok=True)
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        port = taker.getsockname()[1]
        process = subprocess.run(
            [sys.executable, "-m", "cli.main", "up"],
            env={**os.environ, "DATA_DIR": str(data), "PORT": str(port), "PYTHONPATH": str(ROOT)},
            cwd=data.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert f"Port {port} is taken by another program" in process.stderr
    assert marks(data) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = subprocess.run(
        [sys.executable, "-m", "cli.main", "up"],
        env={**os.environ, "DATA_DIR": str(tmp_path / "file" / "data"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1, process.stderr
    assert "is not a folder" in process.stderr
