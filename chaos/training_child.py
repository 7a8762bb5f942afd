"""Lets a training's process come to harm at the named points."""

from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from chaos.point import Point, Points
from chaos.result_fault import around_commit, around_puts
from core.infra.object_store import ObjectStore
from core.services import training as trainings
from worker.handler import training_watch
from worker.training import checkpoint, loop
from worker.training.checkpoint import MANIFEST


def install(folder: Path) -> None:
    """Put the points, which are armed in `folder`, around what this process does with checkpoints and results."""
    points = Points(folder)

    def put_around(module: ModuleType, name: str, *, before: Point | None = None, after: Point | None = None) -> None:
        function = getattr(module, name)

        @wraps(function)
        def reached(*given: Any, **named: Any) -> Any:
            if before:
                points.reach(before)
            result = function(*given, **named)
            if after:
                points.reach(after)
            return result

        setattr(module, name, reached)

    put_around(loop, "write_checkpoint", before=Point.BEFORE_CHECKPOINT, after=Point.CHECKPOINT_RENAMED)
    put_around(checkpoint, "_flush", before=Point.CHECKPOINT_HALF_WRITTEN)  # first of files that have no manifest yet
    put_around(training_watch, "upload_checkpoint", after=Point.CHECKPOINT_UPLOADED)
    _around_manifest(points)
    around_puts(points, before=Point.BEFORE_ITS_PUT, after=Point.AFTER_ITS_PUT)
    around_commit(
        points,
        before=Point.BEFORE_ITS_COMMIT,
        sent=Point.ITS_COMMIT_SENT,
        acknowledged=Point.ITS_COMMIT_ACKNOWLEDGED,
    )
    record = trainings.record_checkpoint

    @wraps(record)
    def record_and_reach(session: Session, *given: Any, **named: Any) -> None:
        record(session, *given, **named)
        event.listen(session, "after_commit", lambda _: points.reach(Point.CHECKPOINT_RECORDED), once=True)

    trainings.record_checkpoint = record_and_reach


def _around_manifest(points: Points) -> None:
    """Of a checkpoint: all its other files are in the store then."""
    upload = ObjectStore.upload

    @wraps(upload)
    def reached(store: ObjectStore, path: Path, *given: Any, **named: Any) -> None:
        if path.name == MANIFEST:
            points.reach(Point.BEFORE_CHECKPOINT_MANIFEST)
        upload(store, path, *given, **named)

    ObjectStore.upload = reached  # type: ignore[assignment, method-assign]
