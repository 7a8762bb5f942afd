"""EvaluationReport: what was measured of a candidate beside the champion; Verdict: what follows from it."""

from collections.abc import Callable
from enum import StrEnum
from statistics import NormalDist
from typing import Annotated

from pydantic import Field

from core.domain.value import Bool, Count, Float, Int, Share, Specification, Text

_ROUNDING = 1e-9
CHANCE = 0.5
"""What somebody who tosses a coin gets right, and a candidate that does nothing wins."""


class Decision(StrEnum):
    PROMOTE = "promote"
    CANARY = "canary"
    REJECT = "reject"
    NEEDS_APPROVAL = "needs_approval"


class Measure(StrEnum):
    """What a scorer judges: what people like better, or whether a picture shows what its prompt says."""

    PREFERENCE = "preference"
    FIDELITY = "fidelity"


class Gates(Specification):
    """What a candidate has to pass. Shares are 0 to 1; a fall is the champion's figure minus the candidate's.

    Shares that must be *above* something are held against the lower end of their interval, so a candidate that is no
    better passes one of them by luck in 2 to 3 % of trials at a confidence of 0.95, and must pass two at once: held-out
    accuracy and the win share. Small counts are harder, as they should be: 24 prompts need 17 wins, 20 opinions need
    15 right. Bounds on harm (fidelity, drift, diversity) are held against the figures themselves: an interval would
    excuse any harm that was measured on few pictures.
    """

    min_held_out: Annotated[Count, Field(ge=1)] = Field(default=20, description="held-out opinions a verdict needs")
    min_accuracy_lower_bound: Share = Field(
        default=0.5, description="the interval of held-out accuracy must lie above this"
    )
    max_accuracy_fall: Share = Field(default=0.0, description="below the champion's held-out accuracy")
    min_win_share: Share = Field(
        default=0.5,
        description="the interval of the share of pictures that the users' judge likes better than the champion's must "
        "lie above this; a little less than half lets through what is only as good",
    )
    max_fidelity_fall: Share = Field(
        default=0.02, description="of how much the pictures show of what unrelated prompts say, 0 to 1"
    )
    max_drift: Annotated[Float, Field(ge=0, le=1e6)] = Field(
        default=0.35,
        description="mean distance of pictures of unrelated prompts from the champion's, as a share of the distance "
        "between the champion's pictures of different prompts",
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


def wilson(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """A share and its score interval (Wilson, JASA 22, 1927, page 209). Ties counted half make it wider than need be.

    Raises:
        ValueError: nothing was observed, or more succeeded than was tried.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} successes of {count}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return Interval(value=share, lower=max(0.0, middle - half), upper=min(1.0, middle + half), count=count)


class Comparison(Specification):
    """One figure of both sides. `champion` is that of the bare base where there is no champion."""

    candidate: float
    champion: float


class ScorerResult(Specification):
    """What one scorer says of the same prompts and seeds drawn by both sides.

    `win_share` counts ties half. `agreement` is how often it sides with held-out opinions: a scorer of preferences
    judges for these users only if that lies above chance.
    """

    scorer: str
    measures: Measure
    candidate: float
    champion: float
    win_share: Interval
    agreement: Interval | None = None

    @property
    def speaks_for_users(self) -> bool:
        """Whether it has agreed with the users more often than chance would."""
        return self.measures is Measure.PREFERENCE and self.agreement is not None and self.agreement.lower > CHANCE


class EvaluationReport(Specification):
    """Everything a verdict is made from; figures are None where they could not be measured, and `notes` say why."""

    champion: Text | None = Field(description="name@version of the champion it was compared with; None: the bare base")
    held_out_rows: Int
    training_rows: Int
    raters: Int
    accuracy: Interval | None = Field(description="the candidate's implicit reward on held-out opinions")
    champion_accuracy: Interval | None
    scorers: tuple[ScorerResult, ...] = ()
    fidelity: Comparison | None = Field(
        default=None, description="how much of unrelated prompts is shown, 0 to 1; a model's own scale without rules"
    )
    drift: float | None = Field(default=None, description="distance from the champion on unrelated prompts; see Gates")
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


def judge(
    report: EvaluationReport,
    gates: Gates,
    *,
    approval_below: int,
    canary_share: float,
    is_clean_retrain: bool = False,
) -> Verdict:
    """Weigh a report: one failed gate rejects, one missing figure asks a person, and so do few training rows.

    Args:
        report: What was measured.
        gates: What is asked for.
        approval_below: Training rows below which a person has to approve.
        canary_share: Of live requests, for the trial before a promotion; 0 promotes at once.
        is_clean_retrain: It replaces an adapter that was trained on feedback since withdrawn. That one has to go, so
            nothing is tried beside it, and its own volume was enough for whoever let it in.
    """
    results = tuple(gate(report, gates) for gate in _GATES)
    failed = tuple(result.sentence for result in results if result.passed is False)
    if failed:
        return Verdict(decision=Decision.REJECT, reasons=failed, gates=results)
    doubts = [result.sentence for result in results if result.passed is None]
    if report.training_rows < approval_below and not is_clean_retrain:
        doubts.append(f"It was trained on {report.training_rows} opinions; fewer than {approval_below} need a person.")
    if doubts:
        return Verdict(decision=Decision.NEEDS_APPROVAL, reasons=tuple(doubts), gates=results)
    passed = f"All {len(results)} gates are passed."
    if is_clean_retrain:
        how = "It replaces an adapter that was trained on withdrawn feedback, at once."
        return Verdict(decision=Decision.PROMOTE, reasons=(passed, how), gates=results)
    if canary_share == 0:
        return Verdict(decision=Decision.PROMOTE, reasons=(passed, "The policy wants no live trial."), gates=results)
    how = f"It is tried on {canary_share:.0%} of the requests that name no adapter."
    return Verdict(decision=Decision.CANARY, reasons=(passed, how), gates=results)


def _serving(report: EvaluationReport, _gates: Gates) -> GateResult:
    words = "The exported file loads and draws" if report.serves else "The exported file does not load and draw"
    return _result("serving", report.serves, words)


def _accuracy(report: EvaluationReport, gates: Gates) -> GateResult:
    found, bound, name = report.accuracy, gates.min_accuracy_lower_bound, "accuracy"
    if found is None:
        return _missing(name, "Held-out accuracy")
    words = f"Held-out accuracy {_told(found)}"
    if found.upper < bound:
        return _result(name, False, f"{words} lies below {bound:.2f}")
    if found.count < gates.min_held_out:
        return _result(name, None, f"{words}; a verdict needs {gates.min_held_out} held-out opinions")
    if found.lower > bound:
        return _result(name, True, f"{words} lies above {bound:.2f}")
    return _result(name, False, f"{words} does not lie above {bound:.2f}")


def _accuracy_beside_champion(report: EvaluationReport, gates: Gates) -> GateResult:
    name, words = "accuracy_beside_champion", "Held-out accuracy beside the champion's"
    if report.champion is None:
        return _result(name, True, "The bare base has no opinion that held-out accuracy could fall behind")
    if report.accuracy is None or report.champion_accuracy is None:
        return _missing(name, words)
    fall = report.champion_accuracy.value - report.accuracy.value
    both = f"{report.accuracy.value:.2f} beside {report.champion_accuracy.value:.2f}"
    return _bounded(name, f"{words}, {both}, falls by", fall, gates.max_accuracy_fall)


def _preference(report: EvaluationReport, gates: Gates) -> GateResult:
    """The scorer that agrees best with held-out opinions speaks for the users."""
    judges = [(scorer.agreement.lower, scorer) for scorer in report.scorers if scorer.agreement]
    judges = [(lower, scorer) for lower, scorer in judges if scorer.speaks_for_users]
    if not judges:
        return _missing("preference", "Whether users would like the pictures better")
    _, judge = max(judges, key=lambda each: each[0])
    is_above = judge.win_share.lower > gates.min_win_share
    words = f"By {judge.scorer}, the share of its pictures that win, {_told(judge.win_share, 'comparisons')},"
    does = "lies" if is_above else "does not lie"
    return _result("preference", is_above, f"{words} {does} above {gates.min_win_share:.2f}")


def _no_objection(report: EvaluationReport, _gates: Gates) -> GateResult:
    """Scorers of fidelity, and those that speak for the users, may not find the candidate worse beyond chance."""
    heard = [each for each in report.scorers if each.speaks_for_users or each.measures is Measure.FIDELITY]
    against = [each for each in heard if each.win_share.upper < CHANCE]
    if against:
        told = "; ".join(f"by {each.scorer} it wins {_told(each.win_share, 'comparisons')}" for each in against)
        return _result("no_objection", False, f"{len(against)} of {len(heard)} scorers find it worse: {told}")
    return _result("no_objection", True, f"None of {len(heard)} scorers finds it worse")


def _fidelity(report: EvaluationReport, gates: Gates) -> GateResult:
    name, words = "fidelity", "Fidelity to unrelated prompts"
    if report.fidelity is None:
        return _missing(name, words)
    both = f"{report.fidelity.candidate:.3f} beside {report.fidelity.champion:.3f}"
    fall = report.fidelity.champion - report.fidelity.candidate
    return _bounded(name, f"{words}, {both}, falls by", fall, gates.max_fidelity_fall)


def _drift(report: EvaluationReport, gates: Gates) -> GateResult:
    words = "The distance of unrelated pictures from the champion's"
    if report.drift is None:
        return _missing("drift", words)
    return _bounded("drift", f"{words} is", report.drift, gates.max_drift)


def _diversity(report: EvaluationReport, gates: Gates) -> GateResult:
    name, words = "diversity", "Diversity of pictures of one prompt"
    if report.diversity is None:
        return _missing(name, words)
    of_both = report.diversity
    fall = 1 - of_both.candidate / of_both.champion if of_both.champion > 0 else 0.0
    both = f"{of_both.candidate:.3f} beside {of_both.champion:.3f}"
    return _bounded(name, f"{words}, {both}, falls by a share of", fall, gates.max_diversity_fall)


_Gate = Callable[[EvaluationReport, Gates], GateResult]
_GATES: tuple[_Gate, ...] = (
    _serving,
    _accuracy,
    _accuracy_beside_champion,
    _preference,
    _no_objection,
    _fidelity,
    _drift,
    _diversity,
)


def _told(share: Interval, what: str = "opinions") -> str:
    return f"{share.value:.2f} ({share.lower:.2f} to {share.upper:.2f}, {share.count} {what})"


def _bounded(gate: str, words: str, figure: float, most: float) -> GateResult:
    return _result(gate, figure <= most + _ROUNDING, f"{words} {figure:.3f}, at most {most:.3f} is allowed")


def _missing(gate: str, words: str) -> GateResult:
    return _result(gate, None, f"{words} could not be measured")


def _result(gate: str, passed: bool | None, words: str) -> GateResult:
    end = {True: "passed", False: "failed", None: "not decided"}[passed]
    return GateResult(gate=gate, passed=passed, sentence=f"{words}: {end}.")
