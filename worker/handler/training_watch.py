"""What a training run tells the rest of the system while it goes on: progress, metrics, checkpoints."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import structlog

from core.domain import object_key
from core.domain.errors import JobInterrupted, Unavailable
from core.domain.training import TrainingMetric
from core.services import checkpoint as checkpoints
from core.services import training as trainings
from worker.runner import Run
from worker.runtime import Runtime
from worker.training.archive import delete_checkpoint, upload_checkpoint
from worker.training.loop import TrainingRun
from worker.training.tuning import Tuning

_log = structlog.get_logger()
_CHECKPOINTS_KEPT = 2


class RunWatch:
    """The watch of a claimed job. A database or store that is away for a while costs metrics' freshness, no steps."""

    def __init__(self, run: Run, runtime: Runtime, tuning: Tuning, course: TrainingRun) -> None:
        self._run, self._runtime, self._tuning, self._course = run, runtime, tuning, course
        self._waiting: list[TrainingMetric] = []

    def should_stop(self) -> bool:
        """Whether the job was canceled, lost, or the worker drains."""
        return self._run.should_stop()

    def record(self, metrics: Sequence[TrainingMetric]) -> None:
        """Report progress and keep the metrics; those that cannot be written wait for the next call.

        Raises:
            OwnershipLost: the claim is no longer ours.
        """
        self._waiting.extend(metrics)
        steps = self._course.plan.spec.steps
        self._run.report(step=metrics[-1].step, steps=steps, message=f"training, loss {metrics[-1].loss:.4f}")
        try:
            self.flush()
        except Unavailable as error:
            _log.warning("metrics_wait", count=len(self._waiting), error=error.message)

    def flush(self) -> None:
        """Write the metrics that wait.

        Raises:
            OwnershipLost: the claim is no longer ours.
            Unavailable: the database is away.
        """
        with self._runtime.database.transaction() as session:
            trainings.record_metrics(session, self._run.claim, self._waiting)
        self._waiting = []

    def keep(self, checkpoint: Path, *, step: int) -> None:
        """Store a checkpoint and then say that it exists; one that cannot be stored now is left out.

        Either way it is gone from this disk afterwards, or those of a long training would fill it.

        Raises:
            OwnershipLost: the claim is no longer ours.
        """
        reason = self._run.stop_reason
        try:
            if reason is None or isinstance(reason, JobInterrupted):  # else nobody will go on from here
                self._store(checkpoint, step)
        except Unavailable as error:
            _log.warning("checkpoint_left_out", step=step, error=error.message)
        finally:
            shutil.rmtree(checkpoint, ignore_errors=True)

    def _store(self, checkpoint: Path, step: int) -> None:
        job, store = self._run, self._runtime.store
        sha256 = upload_checkpoint(store, checkpoint, job_id=job.job_id, claim_epoch=job.claim_epoch, step=step)
        prefix = object_key.checkpoint_prefix(job_id=job.job_id, claim_epoch=job.claim_epoch, step=step)
        with self._runtime.database.transaction() as session:
            trainings.record_checkpoint(session, job.claim, step=step, object_prefix=prefix, manifest_sha256=sha256)
            unneeded = checkpoints.forget_older(session, job.claim, keep=_CHECKPOINTS_KEPT)
        for old in unneeded:
            delete_checkpoint(store, old)

    def sample(self, *, step: int) -> None:
        """Draw samples; they are stored with the checkpoints and at the end."""
        self._run.report(step=step, steps=self._course.plan.spec.steps, message="drawing samples")
        self._tuning.draw(step, folder=self._course.sample_folder)
