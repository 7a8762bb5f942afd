"""The evaluation of a simulated candidate: a recorded one drawn anew, with the opinions that this update really has."""

import numpy as np

from bench.safety.record import Record
from core.domain.evaluation import Comparison, EvaluationReport, Interval, ScorerResult, wilson
from core.domain.model_update import Split
from core.domain.preference import PreferenceManifest

_SPREAD = 0.1  # of drift and diversity, as a share of what was recorded
_FIDELITY_JUDGED = 112  # attributes: 28 pictures with four each


def draw_report(
    rng: np.random.Generator, record: Record, champion: Record | None, manifest: PreferenceManifest, *, raters: int
) -> EvaluationReport:
    """Figures as they might have come out, against the recorded champion or the bare base where there is none.

    Shares are binomial with the recorded rate: held-out accuracy and a scorer's agreement with as many opinions as this
    update holds out, win shares with as many pictures as were drawn. Against a champion the odds of winning are those
    of the candidate over those of the champion, both against the base, as Bradley and Terry have it; the drift is the
    larger one of the two.
    """
    held_out, recorded = len(manifest.of(Split.HELD_OUT)), record.report
    theirs = champion.report if champion else None
    return EvaluationReport(
        champion=None if champion is None else "champion@1",
        held_out_rows=held_out,
        training_rows=len(manifest.of(Split.TRAIN)),
        raters=raters,
        accuracy=_share(rng, recorded.accuracy, held_out),
        champion_accuracy=_champion_accuracy(rng, record, champion, held_out),
        scorers=tuple(_score(rng, each, theirs, held_out) for each in recorded.scorers),
        fidelity=_fidelity(rng, recorded, theirs),
        drift=_jitter(rng, _drift(recorded, theirs)),
        diversity=_diversity(rng, recorded, theirs),
        serves=recorded.serves,
    )


def _share(rng: np.random.Generator, recorded: Interval | None, count: int) -> Interval | None:
    if recorded is None or count == 0:
        return None
    return wilson(float(rng.binomial(count, recorded.value)), count)


def _champion_accuracy(
    rng: np.random.Generator, record: Record, champion: Record | None, count: int
) -> Interval | None:
    """A champion that learned the same from the same kind of people knows it; any other tosses a coin."""
    if champion is None or champion.report.accuracy is None or count == 0:
        return None
    is_akin = champion.trial[1] == record.trial[1] and champion.condition == record.condition
    return wilson(float(rng.binomial(count, champion.report.accuracy.value if is_akin else 0.5)), count)


def _score(
    rng: np.random.Generator, scorer: ScorerResult, champion: EvaluationReport | None, held_out: int
) -> ScorerResult:
    share, count = scorer.win_share.value, scorer.win_share.count
    for theirs in champion.scorers if champion else ():
        if theirs.scorer == scorer.scorer:
            share = _odds_against(share, theirs.win_share.value, count)
    return scorer.model_copy(
        update={
            "win_share": wilson(float(rng.binomial(count, share)), count),
            "agreement": _share(rng, scorer.agreement, held_out),
        }
    )


def _odds_against(mine: float, theirs: float, count: int) -> float:
    """How often the first beats the second, from how often each beats the base."""
    mine, theirs = (min(max(share, 0.5 / count), 1 - 0.5 / count) for share in (mine, theirs))
    return mine * (1 - theirs) / (mine * (1 - theirs) + theirs * (1 - mine))


def _fidelity(rng: np.random.Generator, mine: EvaluationReport, champion: EvaluationReport | None) -> Comparison | None:
    if mine.fidelity is None:
        return None
    beside = champion.fidelity.candidate if champion and champion.fidelity else mine.fidelity.champion
    candidate, champions = (rng.binomial(_FIDELITY_JUDGED, rate) for rate in (mine.fidelity.candidate, beside))
    return Comparison(candidate=float(candidate) / _FIDELITY_JUDGED, champion=float(champions) / _FIDELITY_JUDGED)


def _drift(mine: EvaluationReport, champion: EvaluationReport | None) -> float | None:
    drifts = [report.drift for report in (mine, champion) if report and report.drift is not None]
    return max(drifts) if mine.drift is not None else None


def _diversity(
    rng: np.random.Generator, mine: EvaluationReport, champion: EvaluationReport | None
) -> Comparison | None:
    if mine.diversity is None:
        return None
    champions = mine.diversity.champion
    if champion and champion.diversity:
        champions = champion.diversity.candidate
    candidate = _jitter(rng, mine.diversity.candidate)
    assert candidate is not None
    return Comparison(candidate=candidate, champion=champions)


def _jitter(rng: np.random.Generator, figure: float | None) -> float | None:
    return None if figure is None else float(figure * max(0.0, rng.normal(1, _SPREAD)))
