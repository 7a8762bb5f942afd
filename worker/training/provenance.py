"""Where an adapter comes from."""

from dataclasses import dataclass

from core.domain.base_model import ModelFamily, ModelHandle
from core.domain.training import TrainingPlan, TrainingReport


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What goes into an adapter's manifest and its files' headers. `prediction_type` as diffusers names it."""

    plan: TrainingPlan
    report: TrainingReport
    model: ModelHandle
    family: ModelFamily
    prediction_type: str
    picture_count: int
