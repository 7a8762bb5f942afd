"""Lets a generation worker come to harm at the named points, and by pictures that kill or hang it.

It is put around the worker's own functions before its main function runs, so that these know nothing of it.
"""

import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from chaos.point import Point, Points
from chaos.poison import GREED, HANG, HUNGER, SEGFAULT
from chaos.result_fault import around_commit, around_puts
from chaos.training_fork import TrainingFork
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
    child._spawn = lambda: TrainingFork(folder)  # type: ignore[assignment, return-value]


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
