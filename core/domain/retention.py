"""For how long a finished job is kept, with what it made, by its kind."""

from dataclasses import dataclass
from datetime import timedelta

from core.domain.job import JobKind

_TRAININGS = (JobKind.TRAINING, JobKind.MODEL_UPDATE)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """A training that made an adapter is kept for as long as that is, and a model update for good.

    A dataset goes that was never completed, as if it were a job that ended when it was opened.
    """

    job_days: int
    training_days: int

    @property
    def of_open_dataset(self) -> timedelta:
        """Counted from when it was opened for uploads."""
        return timedelta(days=self.job_days)

    def of(self, kind: JobKind) -> timedelta:
        """Counted from the job's end, where nothing else keeps it."""
        return timedelta(days=self.training_days if kind in _TRAININGS else self.job_days)
