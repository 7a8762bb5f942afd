"""Where an adapter comes from."""

from dataclasses import dataclass

from core.domain.base_model import ModelFamily, ModelHandle
from core.domain.preference import AnyPlan, PreferenceReport
from core.domain.training import TrainingReport


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What goes into an adapter's manifest and its files' headers. `prediction_type` as diffusers names it."""

    plan: AnyPlan
    report: TrainingReport | PreferenceReport
    model: ModelHandle
    family: ModelFamily
    prediction_type: str
    picture_count: int
