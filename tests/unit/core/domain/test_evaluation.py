"""The verdict: what each gate lets through, what is missing, and what follows."""

from typing import Any

import pytest

from core.domain.evaluation import (
    Comparison,
    Decision,
    EvaluationReport,
    Gates,
    Interval,
    Measure,
    ScorerResult,
    Verdict,
    judge,
    wilson,
)


# 81 of 263 and 15 of 148: Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
@pytest.mark.parametrize(("successes", "count", "told"), [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605))])
def test_wilsons_interval_is_the_published_one(successes: int, count: int, told: tuple[float, float]) -> None:
    found = wilson(successes, count)
    assert (found.value, found.count) == (successes / count, count)
    assert (found.lower, found.upper) == pytest.approx(told, abs=5e-5)


@pytest.mark.parametrize(("confidence", "z"), [(0.8, 1.281552), (0.95, 1.959964), (0.999, 3.290527)])
def test_wilsons_ends_are_the_shares_that_just_explain_what_was_seen(confidence: float, z: float) -> None:
    for count in (1, 7, 40, 1000):
        for successes in {0, 1, count // 3, count}:
            found = wilson(successes, count, confidence)
            for end in (found.lower, found.upper):
                deviation = z * (end * (1 - end) / count) ** 0.5
                assert abs(found.value - end) == pytest.approx(deviation, abs=1e-6)


def test_more_confidence_and_less_data_are_wider() -> None:
    def width(interval: Interval) -> float:
        return interval.upper - interval.lower

    assert width(wilson(30, 40, 0.99)) > width(wilson(30, 40, 0.95)) > width(wilson(300, 400, 0.95))


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_nothing_is_said_of_what_cannot_be(successes: float, count: int) -> None:
    with pytest.raises(ValueError, match="successes of"):
        wilson(successes, count)


def scorer(**changes: Any) -> ScorerResult:
    fields: dict[str, Any] = {
        "scorer": "taste_probe",
        "measures": Measure.PREFERENCE,
        "candidate": 0.8,
        "champion": 0.2,
        "win_share": wilson(20, 24),
        "agreement": wilson(36, 40),
    }
    return ScorerResult(**(fields | changes))


RULE = scorer(scorer="rule", measures=Measure.FIDELITY, win_share=wilson(12, 24), agreement=None)


def report(**changes: Any) -> EvaluationReport:
    """One that passes every gate."""
    fields: dict[str, Any] = {
        "champion": "taste@1",
        "held_out_rows": 40,
        "training_rows": 240,
        "raters": 12,
        "accuracy": wilson(34, 40),
        "champion_accuracy": wilson(30, 40),
        "scorers": (scorer(), RULE),
        "fidelity": Comparison(candidate=0.97, champion=0.98),
        "drift": 0.1,
        "diversity": Comparison(candidate=0.2, champion=0.22),
        "serves": True,
    }
    return EvaluationReport(**(fields | changes))


def verdict_on(found: EvaluationReport, **changes: Any) -> Verdict:
    terms: dict[str, Any] = {"approval_below": 200, "canary_share": 0.1}
    return judge(found, Gates(), **(terms | changes))


def test_what_passes_everything_is_tried_on_live_requests() -> None:
    verdict = verdict_on(report())
    assert verdict.decision is Decision.CANARY
    assert verdict.reasons == ("All 8 gates are passed.", "It is tried on 10% of the requests that name no adapter.")
    assert all(gate.passed for gate in verdict.gates)


FAILURES: list[tuple[str, dict[str, Any], str]] = [
    ("serving", {"serves": False}, "does not load and draw: failed"),
    (
        "accuracy",
        {"accuracy": wilson(24, 40), "champion": None},
        "0.60 (0.45 to 0.74, 40 opinions) does not lie above 0.50: failed",
    ),
    ("accuracy", {"accuracy": wilson(1, 12), "champion_accuracy": wilson(1, 12)}, "lies below 0.50: failed"),
    (
        "accuracy_beside_champion",
        {"champion_accuracy": wilson(35, 40)},
        "0.85 beside 0.88, falls by 0.025, at most 0.0",
    ),
    (
        "preference",
        {"scorers": (scorer(win_share=wilson(15, 24)),)},
        "the share of its pictures that win, 0.62",
    ),
    ("preference", {"scorers": (scorer(win_share=wilson(12, 24)), RULE)}, "does not lie above 0.50: failed"),
    ("no_objection", {"scorers": (scorer(), RULE.model_copy(update={"win_share": wilson(3, 24)}))}, "1 of 2 scorers"),
    ("fidelity", {"fidelity": Comparison(candidate=0.95, champion=0.98)}, "0.950 beside 0.980, falls by 0.030"),
    ("drift", {"drift": 0.5}, "is 0.500, at most 0.350 is allowed: failed"),
    ("diversity", {"diversity": Comparison(candidate=0.1, champion=0.2)}, "falls by a share of 0.500"),
]


@pytest.mark.parametrize(("gate", "changes", "words"), FAILURES)
def test_one_failed_gate_rejects_and_says_why_in_numbers(gate: str, changes: dict[str, Any], words: str) -> None:
    verdict = verdict_on(report(**changes))
    assert verdict.decision is Decision.REJECT
    assert [each.gate for each in verdict.gates if each.passed is False] == [gate]
    assert len(verdict.reasons) == 1 and words in verdict.reasons[0]


MISSING: list[tuple[str, dict[str, Any], str]] = [
    ("accuracy", {"accuracy": None, "champion": None}, "Held-out accuracy could not be measured"),
    ("accuracy", {"accuracy": wilson(12, 12)}, "a verdict needs 20 held-out opinions: not decided"),
    ("accuracy_beside_champion", {"champion_accuracy": None}, "could not be measured"),
    ("preference", {"scorers": (RULE,)}, "could not be measured"),
    ("preference", {"scorers": (scorer(agreement=wilson(22, 40)),)}, "could not be measured"),
    ("preference", {"scorers": (scorer(agreement=None),)}, "could not be measured"),
    ("fidelity", {"fidelity": None}, "could not be measured"),
    ("drift", {"drift": None}, "could not be measured"),
    ("diversity", {"diversity": None}, "could not be measured"),
]


@pytest.mark.parametrize(("gate", "changes", "words"), MISSING)
def test_a_missing_figure_asks_a_person(gate: str, changes: dict[str, Any], words: str) -> None:
    verdict = verdict_on(report(**changes))
    assert verdict.decision is Decision.NEEDS_APPROVAL
    assert [each.gate for each in verdict.gates if each.passed is None] == [gate]
    assert len(verdict.reasons) == 1 and words in verdict.reasons[0]


def test_a_failed_gate_outweighs_a_missing_figure() -> None:
    assert verdict_on(report(drift=None, serves=False)).decision is Decision.REJECT


def test_the_bare_base_has_no_accuracy_to_fall_behind() -> None:
    assert verdict_on(report(champion=None, champion_accuracy=None)).decision is Decision.CANARY


def test_few_rows_need_a_person_and_no_canary_promotes_at_once() -> None:
    few = verdict_on(report(training_rows=199))
    assert few.decision is Decision.NEEDS_APPROVAL
    assert few.reasons == ("It was trained on 199 opinions; fewer than 200 need a person.",)
    assert verdict_on(report(), canary_share=0.0).decision is Decision.PROMOTE


def test_a_clean_retrain_replaces_at_once_but_passes_the_same_gates() -> None:
    clean = {"is_clean_retrain": True}
    assert verdict_on(report(training_rows=30), **clean).decision is Decision.PROMOTE
    assert verdict_on(report(drift=0.9), **clean).decision is Decision.REJECT
    assert verdict_on(report(drift=None), **clean).decision is Decision.NEEDS_APPROVAL


def test_the_scorer_that_agrees_best_with_the_users_is_their_judge() -> None:
    strange = scorer(scorer="pick_score", agreement=wilson(20, 40), win_share=wilson(1, 24))
    weaker = scorer(scorer="hps_v2", agreement=wilson(28, 40), win_share=wilson(12, 24))
    verdict = verdict_on(report(scorers=(strange, weaker, scorer(), RULE)))
    assert verdict.decision is Decision.CANARY
    assert any("By taste_probe, the share of its pictures that win, 0.83" in gate.sentence for gate in verdict.gates)
    assert verdict_on(report(scorers=(weaker, strange, RULE))).decision is Decision.REJECT


def test_a_candidate_that_does_nothing_is_rejected() -> None:
    same = Comparison(candidate=0.9, champion=0.9)
    ties = (scorer(win_share=wilson(12, 24), candidate=0.5, champion=0.5), RULE)
    nothing = report(accuracy=wilson(20, 40), champion=None, scorers=ties, fidelity=same, drift=0.0, diversity=same)
    verdict = verdict_on(nothing)
    assert verdict.decision is Decision.REJECT
    assert [gate.gate for gate in verdict.gates if not gate.passed] == ["accuracy", "preference"]


def test_gates_can_be_loosened() -> None:
    found = report(scorers=(scorer(win_share=wilson(12, 24)), RULE))
    loose = Gates(min_win_share=0.3)
    assert judge(found, loose, approval_below=0, canary_share=0.0).decision is Decision.PROMOTE


def test_a_bound_that_is_just_met_is_met_in_spite_of_rounding() -> None:
    edge = report(fidelity=Comparison(candidate=0.96, champion=0.98), drift=0.35)
    assert verdict_on(edge).decision is Decision.CANARY


def test_a_report_and_a_verdict_survive_json() -> None:
    found = report()
    assert EvaluationReport.model_validate_json(found.model_dump_json()) == found
    verdict = verdict_on(found)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
