"""A training's process that comes to harm at the named points: `python -m chaos.training_child FOLDER`."""

import sys
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from chaos.point import Point, Points


def install(folder: Path) -> None:
    """Put the points, which are armed in `folder`, around what this process does with checkpoints."""
    from core.services import training as trainings
    from worker.handler import training_watch
    from worker.training import loop

    points = Points(folder)

    def put_around(module: ModuleType, name: str, *, before: Point | None = None, after: Point) -> None:
        function = getattr(module, name)

        @wraps(function)
        def reached(*given: Any, **named: Any) -> Any:
            if before:
                points.reach(before)
            result = function(*given, **named)
            points.reach(after)
            return result

        setattr(module, name, reached)

    put_around(loop, "write_checkpoint", before=Point.BEFORE_CHECKPOINT, after=Point.CHECKPOINT_RENAMED)
    put_around(training_watch, "upload_checkpoint", after=Point.CHECKPOINT_UPLOADED)
    record = trainings.record_checkpoint

    @wraps(record)
    def record_and_reach(session: Session, *given: Any, **named: Any) -> None:
        record(session, *given, **named)
        event.listen(session, "after_commit", lambda _: points.reach(Point.CHECKPOINT_RECORDED), once=True)

    trainings.record_checkpoint = record_and_reach


def main() -> None:
    """Be a training's process as `worker.child` is one."""
    from worker import child

    install(Path(sys.argv[1]))
    child.main()


if __name__ == "__main__":
    main()
