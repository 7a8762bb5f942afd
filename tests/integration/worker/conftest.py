"""The fixtures of a job's bench."""

from tests.job_bench import bench, model_id, queue, tenant_id

__all__ = ["bench", "model_id", "queue", "tenant_id"]
