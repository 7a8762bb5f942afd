"""The bench for jobs."""

from tests.job_bench import bench, model_id, queue, tenant_id

__all__ = ["bench", "model_id", "queue", "tenant_id"]
