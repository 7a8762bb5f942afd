"""What every training needs around it: a folder of its own, checked files, a place to go on from, a way to store."""

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import structlog

from core.domain import object_key
from core.domain.errors import DatasetUnusable, JobStopped, NotFound
from core.domain.outcome import Output
from core.domain.preference import AnyPlan
from core.services import training as trainings
from worker.engine.model_source import hold_model
from worker.file_lock import took
from worker.runner import Run
from worker.runtime import Runtime
from worker.training.archive import fetch_newest
from worker.training.checkpoint import digest_config, digest_file
from worker.training.loop import TrainingRun

TENSORS, PNG, JSON, MARKDOWN = "application/octet-stream", "image/png", "application/json", "text/markdown"
_log = structlog.get_logger()
_ABANDONED_SECONDS = 24 * 3600.0
_LOCK = "lock"


def say(run: Run, message: str, *, steps: int, step: int = 0) -> None:
    """Report progress.

    Raises:
        JobStopped: asked to stop.
    """
    if run.should_stop():
        raise JobStopped
    run.report(step=step, steps=steps, message=message)


@contextmanager
def work_folder(runtime: Runtime, run: Run) -> Iterator[Path]:
    """A folder for this claim alone, gone afterwards, together with what killed runs left behind."""
    root = runtime.settings.data_dir / "work"
    folder = root / f"{run.job_id}-{run.claim_epoch}"
    for other in root.glob("*-*"):
        lost_its_claim = other.name.startswith(f"{run.job_id}-")
        if lost_its_claim or _is_abandoned(other):
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / _LOCK).open("a") as lock:
        took(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody works there; a young one may have been made just now, and not be locked yet."""
    try:
        is_young = time.time() - folder.stat().st_mtime < _ABANDONED_SECONDS
        with (folder / _LOCK).open("a") as lock:
            return not is_young and took(lock, fcntl.LOCK_EX)
    except OSError:  # its run has ended meanwhile, or it is nothing of ours
        return False


def hold_base_model(run: Run, runtime: Runtime, *, tell: Callable[[str], None]) -> AbstractContextManager[Path]:
    """The base model's folder, for as long as it takes to load it; `tell` is told while it is fetched."""
    return hold_model(
        run.model,
        settings=runtime.settings,
        store=runtime.store,
        at_work=partial(tell, "fetching the base model"),
        should_stop=run.should_stop,
    )


def fetch_picture(runtime: Runtime, key: str, path: Path, *, sha256: str, name: str) -> None:
    """Bring a picture of the training data here; `name` is what a sentence calls it.

    Raises:
        DatasetUnusable: it is gone, or another than it was.
        Unavailable: the object store is away.
    """
    try:
        runtime.store.download(key, path)
    except NotFound as error:
        raise DatasetUnusable(f"{name} is gone.") from error
    if digest_file(path) != sha256:
        raise DatasetUnusable(f"{name} is not the one that it was.")


def resume(run: Run, runtime: Runtime, plan: AnyPlan, folder: Path) -> TrainingRun:
    """The course of a training: from the newest checkpoint whose digests verify, or from the start."""
    config = digest_config(plan, base_model_id=str(run.model.id))
    with runtime.database.transaction() as session:
        stored = trainings.newest_checkpoints(session, job_id=run.job_id)
    newest = fetch_newest(runtime.store, stored, config_sha256=config, folder=folder / "resume")
    _log.info("training", steps=plan.spec.steps, resumes_from=newest.name if newest else None)
    return TrainingRun(
        plan=plan,
        folder=folder,
        config_sha256=config,
        checkpoint_seconds=runtime.settings.checkpoint_seconds,
        resume_from=newest,
    )


def upload(run: Run, runtime: Runtime, path: Path, kind: str, content_type: str) -> Output:
    """Store a file under the claim's own key."""
    body = path.read_bytes()
    key = object_key.output(job_id=run.job_id, claim_epoch=run.claim_epoch, name=path.name)
    runtime.store.put(key, body, content_type=content_type)
    return Output(
        type=kind,
        object_key=key,
        content_type=content_type,
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )
