"""A process of its own for each training: its memory returns with it, and a crash costs nothing else.

One child is always kept ready with the GPU stack imported, so a job does not wait for that.
"""

import os
import signal
import subprocess
import sys
import threading

import structlog

from core.domain.errors import LorikeetError
from core.domain.job import KINDS_OF_WORKER, JobKind, WorkerKind
from core.infra.settings import load_settings
from core.infra.telemetry import configure_logging
from core.services import run as runs
from worker.runner import run_next
from worker.runtime import Runtime, build_runtime
from worker.watchdog import guard_run

_log = structlog.get_logger()
_GO = b"go\n"
_PARENT_TICK_SECONDS = 0.2


class TrainingChild:
    """The parent's side: hands one job to the waiting child, sees it to its end, and has the next one made."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._standby = _spawn()

    def work(self) -> bool:
        """Let a child do the next training job, if there is one; whether there was."""
        with self._runtime.database.transaction() as session:
            if not runs.has_work(session, kinds=KINDS_OF_WORKER[WorkerKind.TRAINING]):
                return False
        if self._runtime.draining.is_set():
            return False
        child = self._ready_child()
        assert child.stdin is not None
        child.stdin.write(_GO)
        child.stdin.flush()
        exit_code = self._wait(child)
        if exit_code != 0:
            _log.error("training_child_died", exit_code=exit_code)
            with self._runtime.database.transaction() as session:
                runs.declare_dead(session, worker_id=_worker_id(child))
        if not self._runtime.draining.is_set():
            self._standby = _spawn()
        return True

    def _ready_child(self) -> "subprocess.Popen[bytes]":
        if self._standby.poll() is not None:
            self._standby = _spawn()
        return self._standby

    def _wait(self, child: "subprocess.Popen[bytes]") -> int:
        asked = False
        while True:
            try:
                return child.wait(_PARENT_TICK_SECONDS)
            except subprocess.TimeoutExpired:
                if self._runtime.draining.is_set() and not asked:
                    child.terminate()
                    asked = True

    def close(self) -> None:
        """End the child that waits."""
        self._standby.kill()
        self._standby.wait()


def _spawn() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "worker.child"], stdin=subprocess.PIPE)


def _worker_id(child: "subprocess.Popen[bytes]") -> str:
    return f"training-child:{os.uname().nodename}:{child.pid}"


def main() -> None:
    """The child's side: import what is heavy, wait for the word, do one job, end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's affair
    settings = load_settings()
    configure_logging(settings, process="training")
    from worker.handler import model_update, training

    runtime = build_runtime(settings)
    runtime.worker_id = f"training-child:{os.uname().nodename}:{os.getpid()}"
    if os.read(0, len(_GO)) != _GO:
        return
    signal.signal(signal.SIGTERM, lambda *_: runtime.draining.set())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    guard_run(runtime)
    try:
        run_next(runtime, {JobKind.TRAINING: training.handle, JobKind.MODEL_UPDATE: model_update.handle})
    except LorikeetError as error:
        _log.warning("claim_failed", error=error.message)
    runtime.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(os.EX_OK)  # else the next run waits for all that native libraries do when an interpreter ends


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
