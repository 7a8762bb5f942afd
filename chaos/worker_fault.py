"""Lets a generation worker come to harm at the named points, and by pictures that kill or hang it.

It is put around the worker's own functions before its main function runs, so that these know nothing of it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from chaos.point import Point, Points, meet
from chaos.poison import GREED, HANG, HUNGER, SEGFAULT
from core.infra.object_store import ObjectStore
from core.infra.repository import lease as leases
from core.services import run as runs
from worker import child, runner
from worker.engine.image_engine import ImageEngine


def install(folder: Path) -> None:
    """Put the points, which are armed in `folder`, and the evil pictures around this process's worker."""
    points = Points(folder)
    _around_claim(points)
    around_puts(points, before=Point.BEFORE_PUT, after=Point.AFTER_PUT)
    around_commit(points, before=Point.BEFORE_COMMIT, sent=Point.COMMIT_SENT, acknowledged=Point.COMMIT_ACKNOWLEDGED)
    _around_pictures()
    child._spawn = lambda: subprocess.Popen(
        [sys.executable, "-m", "chaos.training_child", str(folder)], stdin=subprocess.PIPE
    )


def _around_claim(points: Points) -> None:
    claim_next, run = runs.claim_next, runner._run

    @wraps(claim_next)
    def claim(*given: Any, **named: Any) -> Any:
        points.reach(Point.BEFORE_CLAIM)
        return claim_next(*given, **named)

    @wraps(run)
    def claimed(*given: Any, **named: Any) -> None:
        points.reach(Point.CLAIMED)
        run(*given, **named)

    runs.claim_next, runner._run = claim, claimed


def around_puts(points: Points, *, before: Point, after: Point) -> None:
    """Of every file that is a result."""
    put = ObjectStore.put

    @wraps(put)
    def reached(*given: Any, **named: Any) -> None:
        points.reach(before)
        put(*given, **named)
        points.reach(after)

    ObjectStore.put = reached  # type: ignore[method-assign]


def around_commit(points: Points, *, before: Point, sent: Point, acknowledged: Point) -> None:
    """Of the transactions that end a run, and of no others."""
    end_run, here = leases.end_run, threading.local()

    @wraps(end_run)
    def end(*given: Any, **named: Any) -> Any:
        ended = end_run(*given, **named)
        here.ends_run = ended is not None
        return ended

    leases.end_run = end

    @event.listens_for(Engine, "commit")
    def commit(connection: Connection) -> None:
        if getattr(here, "ends_run", False):
            points.reach(before)
            if fate := points.take(sent):
                driver: Any = connection.connection.dbapi_connection
                driver.pgconn.send_query(b"COMMIT")
                driver.pgconn.flush()
                meet(fate)

    @event.listens_for(Session, "after_commit")
    def committed(_: Session) -> None:
        if getattr(here, "ends_run", False):
            here.ends_run = False
            points.reach(acknowledged)

    @event.listens_for(Session, "after_rollback")
    def rolled_back(_: Session) -> None:
        here.ends_run = False


def _around_pictures() -> None:
    generate = ImageEngine.generate

    def evil(prompt: str, on_step: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def step(done: int, steps: int) -> None:
            if prompt == SEGFAULT:
                os.kill(os.getpid(), signal.SIGSEGV)
            if prompt == HUNGER:
                os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does where memory has run out
            if prompt == GREED:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            while prompt == HANG:
                time.sleep(1)
            on_step(done, steps)

        return step

    @wraps(generate)
    def draw(engine: Any, model: Any, plan: Any, **named: Any) -> Any:
        return generate(engine, model, plan, **{**named, "on_step": evil(plan.prompt, named["on_step"])})

    ImageEngine.generate = draw  # type: ignore[assignment, method-assign]
