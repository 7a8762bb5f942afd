"""Starts a training's process in a blink, by a fork of one that has its libraries loaded.

Their import takes seconds, so trainings that are killed some hundred times would hardly get to their ends.
"""

import multiprocessing
import os
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_LOADED = ["chaos.training_child", "worker.handler.training", "worker.handler.model_update"]


class TrainingFork:
    """What `worker.child` needs of a `subprocess.Popen`. Its points are armed in `folder`."""

    def __init__(self, folder: Path) -> None:
        _FORKS.set_forkserver_preload(_LOADED)
        reader, writer = _FORKS.Pipe(duplex=False)
        self.stdin = os.fdopen(os.dup(writer.fileno()), "wb")
        self._process = _FORKS.Process(target=_be, args=(folder, reader))
        self._process.start()
        self.pid = self._process.pid
        reader.close()
        writer.close()
        self.terminate, self.kill = self._process.terminate, self._process.kill

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            TimeoutExpired: it has not ended.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a training", timeout or 0.0)
        return self._process.exitcode


def _be(folder: Path, stdin: Connection) -> None:
    """Be a training's process as `worker.child` is one."""
    from chaos import training_child
    from worker import child

    os.dup2(stdin.fileno(), 0)
    stdin.close()
    training_child.install(folder)
    child.main()
