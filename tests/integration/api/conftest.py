"""The fixtures of the API's bench."""

from tests.api_bench import client, hidden, model_id, runtime, stranger, tenant

__all__ = ["client", "hidden", "model_id", "runtime", "stranger", "tenant"]
