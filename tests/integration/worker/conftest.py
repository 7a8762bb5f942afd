"""The fixtures of a job's bench and of a runner's."""

from tests.job_bench import bench, model_id, queue, tenant_id
from tests.runner_bench import runtime

__all__ = ["bench", "model_id", "queue", "runtime", "tenant_id"]
