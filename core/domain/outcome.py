"""What a run hands over when it is done: files in the object store, and what they mean."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from core.domain.adapter import AdapterManifest
from core.domain.base_model import ModelFacts
from core.domain.evaluation import EvaluationReport, Verdict
from core.domain.rollout import Arm


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file that the run has stored.

    `type` is `image`, `sample`, `adapter`, `adapter_kohya`, `manifest`, `contact_sheet`, `model_card` or `report`.
    `arm` and `rollout_id` are those of the live comparison that a picture was drawn in.
    """

    type: str
    object_key: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    adapters: list[dict[str, Any]] = field(default_factory=list)
    perceptual_hash: str | None = None
    rollout_id: UUID | None = None
    arm: Arm | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything of a run that becomes true at its commit, and nothing of it before."""

    outputs: list[Output] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    adapter: AdapterManifest | None = None
    model_facts: ModelFacts | None = None
    report: EvaluationReport | None = None
    verdict: Verdict | None = None
