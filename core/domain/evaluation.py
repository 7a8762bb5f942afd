"""EvaluationReport: what was measured of a candidate beside the champion; and the verdict on it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from core.domain.value import Bool, Float, Int, Share, Specification, Text


class Decision(StrEnum):
    PROMOTE = "promote"
    CANARY = "canary"
    REJECT = "reject"
    NEEDS_APPROVAL = "needs_approval"


class Gates(Specification):
    """What a candidate has to pass. Shares are 0 to 1; a fall is the champion's figure minus the candidate's."""

    min_held_out: Annotated[Int, Field(ge=1)] = Field(default=20, description="held-out opinions a verdict needs")
    min_accuracy_lower_bound: Share = Field(
        default=0.5, description="the interval of held-out accuracy must lie above this"
    )
    max_accuracy_fall: Share = Field(default=0.0, description="below the champion's held-out accuracy")
    min_win_share: Share = Field(
        default=0.5, description="of prompts whose pictures the preference scorers like better than the champion's"
    )
    max_fidelity_fall: Share = Field(default=0.02, description="of prompts that the pictures follow")
    max_drift: Annotated[Float, Field(ge=0)] = Field(
        default=0.35, description="mean distance of pictures of unrelated prompts from the champion's, 0 to 1"
    )
    max_diversity_fall: Share = Field(
        default=0.3, description="of the mean distance between pictures of one prompt, as a share of the champion's"
    )
    confidence: Annotated[Float, Field(gt=0.5, lt=1)] = Field(default=0.95, description="of every interval")


class Interval(Specification):
    """An estimate with its interval, from `count` observations."""

    value: float
    lower: float
    upper: float
    count: int


class Comparison(Specification):
    """One figure of both sides. `champion` is None where there is no champion and the bare base stands in its place."""

    candidate: float
    champion: float


class ScorerResult(Specification):
    """What one scorer says of the same prompts and seeds drawn by both sides.

    `win_share` counts ties half. `measures` is what it judges: `preference` or `fidelity`.
    """

    scorer: str
    measures: str
    candidate: float
    champion: float
    win_share: Interval


class EvaluationReport(Specification):
    """Everything a verdict is made from; figures are None where they could not be measured, and `notes` say why."""

    champion: Text | None = Field(description="name@version of the champion it was compared with; None: the bare base")
    held_out_rows: Int
    training_rows: Int
    raters: Int
    accuracy: Interval | None = Field(description="the candidate's implicit reward on held-out opinions")
    champion_accuracy: Interval | None
    scorers: tuple[ScorerResult, ...] = ()
    fidelity: Comparison | None = Field(default=None, description="share of unrelated full prompts that are followed")
    drift: float | None = Field(default=None, description="distance from the champion on unrelated prompts, 0 to 1")
    diversity: Comparison | None = Field(default=None, description="mean distance between pictures of one prompt")
    serves: Bool = Field(description="the exported file loads in a fresh pipeline and draws")
    notes: tuple[str, ...] = ()


class GateResult(Specification):
    """One gate: `passed` is None where the figure is missing."""

    gate: str
    passed: Bool | None
    sentence: str


class Verdict(Specification):
    """What is to be done with a candidate, and why, in sentences."""

    decision: Decision
    reasons: tuple[str, ...]
    gates: tuple[GateResult, ...]
