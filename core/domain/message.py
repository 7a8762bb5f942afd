"""The queue contract: a message is a job id, sent to the task and the queue of its kind."""

from core.domain.job import JobKind

TASK_NAME: dict[JobKind, str] = {kind: f"lorikeet.{kind}" for kind in JobKind}
QUEUE_NAME: dict[JobKind, str] = {kind: f"lorikeet.{kind}" for kind in JobKind}

ENDED_CHANNEL = "lorikeet.ended"
"""Where the ids of jobs are said whose end is committed. Who does not hear it finds it in Postgres."""
