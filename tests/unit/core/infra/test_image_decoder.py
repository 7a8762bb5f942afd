"""The program that decodes pictures, alone: when it ends."""

import json
import signal
import subprocess
import sys
from typing import IO

from cli.environment import ROOT
from tests.unit.core.infra.test_decoder_pool import GOOD


def program(seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", str(ROOT / "core/infra/image_decoder.py"), str(2**30), str(seconds)]
    popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
    assert pipe(popen.stdout).readline() == b'{"ready": true}\n'
    return popen


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def test_the_program_ends_with_its_input_and_not_with_a_signal_to_the_group() -> None:
    with program(seconds=60) as popen:
        popen.send_signal(signal.SIGINT)
        popen.send_signal(signal.SIGTERM)
        question = {"size": len(GOOD), "max_pixels": 10**6, "max_kept_pixels": 10**6}
        pipe(popen.stdin).write(json.dumps(question).encode() + b"\n" + GOOD)
        pipe(popen.stdin).flush()
        assert json.loads(pipe(popen.stdout).readline())["width"] == 40
        pipe(popen.stdin).close()
        assert popen.wait(timeout=30) == 0


def test_the_program_ends_over_a_picture_that_takes_too_long_though_nobody_kills_it() -> None:
    with program(seconds=0.2) as popen:
        pipe(popen.stdin).write(b'{"size": 100, "max_pixels": 100, "max_kept_pixels": 100}\n')
        pipe(popen.stdin).flush()
        assert popen.wait(timeout=60) == -signal.SIGALRM


INTRUDER = """
import os, socket
from core.infra import image_decoder

image_decoder._limit(2**30)
os.close(2)  # its place is free
for attempt in (lambda: os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY), socket.socket, os.pipe):
    try:
        attempt()
        print("opened")
    except OSError as error:
        print(error.strerror)
"""


def test_who_takes_the_program_over_opens_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", INTRUDER], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Too many open files"] * 3
