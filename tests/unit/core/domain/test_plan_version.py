"""Workers of the version before are asked to do nothing that they cannot read."""

import hashlib
import json
from typing import Any

from core.domain.base_model import BaseModelSpec
from core.domain.generation import GenerationPlan
from core.domain.job import PLAN_VERSION
from core.domain.training import TrainingPlan
from core.domain.update_plan import UpdatePlan

PLANS = (GenerationPlan, TrainingPlan, UpdatePlan, BaseModelSpec)
DIGESTS = {1: "b054eef4a097a1c3"}
"""By version, of what plans may say. A new line for each change, and never an old one changed."""


def bare(schema: Any) -> Any:
    """A JSON schema without what it says to people."""
    if isinstance(schema, dict):
        said = {key for key in ("description", "title") if isinstance(schema.get(key), str)}
        return {key: bare(value) for key, value in schema.items() if key not in said}
    return [bare(each) for each in schema] if isinstance(schema, list) else schema


def test_a_change_of_what_plans_may_say_is_a_new_version() -> None:
    schemas = json.dumps([bare(plan.model_json_schema()) for plan in PLANS], sort_keys=True)
    assert DIGESTS.get(PLAN_VERSION) == hashlib.sha256(schemas.encode()).hexdigest()[:16], "raise PLAN_VERSION"
    assert max(DIGESTS) == PLAN_VERSION
