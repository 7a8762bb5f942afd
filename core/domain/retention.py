"""For how long a finished job is kept, with what it made, by its kind."""

from dataclasses import dataclass
from datetime import timedelta

from core.domain.job import JobKind

_TRAININGS = (JobKind.TRAINING, JobKind.MODEL_UPDATE)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """An adapter that a training made is no part of it: it stays until it is deleted."""

    job_days: int
    training_days: int

    def of(self, kind: JobKind) -> timedelta:
        """Counted from the job's end."""
        return timedelta(days=self.training_days if kind in _TRAININGS else self.job_days)
