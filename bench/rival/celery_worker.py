"""A stock Celery worker: one task draws a picture with a pipeline, its PNG is the result; another does nothing."""

import os
from typing import Any

from celery import Celery

app = Celery("rival", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=False, worker_prefetch_multiplier=1)
_painters: list[Any] = []


@app.task(name="draw")
def draw(request: dict[str, Any]) -> str:
    """A PNG in base64."""
    if not _painters:
        from bench.rival.drawing import Painter

        _painters.append(Painter())
    png: str = _painters[0].draw([request])[0]
    return png


@app.task(name="nothing")
def nothing(request: dict[str, Any]) -> None:
    """Only the way there and back."""
