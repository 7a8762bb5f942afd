"""Starts our programs in a blink: a process that has their libraries loaded, and forks.

A worker that is killed a thousand times would otherwise spend hours on importing torch. What runs after the fork is
the program's own main function, in a session, an environment and a log of its own.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.mutation import Part, leave_out
from cli.environment import ROOT
from cli.process import birth

Main = Callable[[Sequence[str]], None]


class Nursery:
    """The harness's side: asks for a program and gets its process id. Safe to share between threads."""

    def __init__(self, environment: Mapping[str, str], *, log: Path) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chaos.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=dict(environment),
                cwd=ROOT,
                start_new_session=True,
            )
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> int:
        """Fork a program; its process id, which is its group's too.

        Raises:
            ValueError: the nursery has ended; its log knows why.
        """
        order = {"command": list(command), "environment": dict(environment), "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and all that it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Fork what is asked for until nobody asks any more; nothing of it is left then."""
    mains, groups = _mains(), dict[int, str | None]()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness's affair
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the dead need no burial
    for line in sys.stdin.buffer:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order, mains)
        groups[pid] = birth(pid)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    for group, born in groups.items():
        if born and birth(group) == born:  # an id comes again, and is somebody else's then
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def _mains() -> dict[str, Main]:
    import uvicorn

    import api.main  # noqa: F401  # loaded before the fork
    import worker.handler.generation
    import worker.handler.registration
    import worker.main
    import worker.upkeep
    from chaos import worker_fault

    def serve(arguments: Sequence[str]) -> None:
        [port] = arguments
        uvicorn.run("api.main:create_app", factory=True, port=int(port), log_config=None, timeout_graceful_shutdown=5)

    def work(arguments: Sequence[str]) -> None:
        kind, faults = arguments
        worker_fault.install(Path(faults))
        sys.argv = ["worker.main", kind]
        worker.main.main()

    def look_after(_: Sequence[str]) -> None:
        worker.upkeep.main()

    return {"api": serve, "worker": work, "upkeep": look_after}


def _become(order: Mapping[str, Any], mains: Mapping[str, Main]) -> None:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        os.environ.clear()
        os.environ.update(order["environment"])
        if missing := os.environ.get("CHAOS_WITHOUT"):
            leave_out(Part(missing))
        name, *arguments = order["command"]
        mains[name](arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # a fork must never go on as the nursery
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
