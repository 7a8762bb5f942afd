"""Figures of pictures that both sides drew: who wins, how far they drifted, how much they vary."""

from collections.abc import Sequence
from itertools import combinations, groupby

import numpy as np

from core.domain.evaluation import Comparison, Interval, ScorerResult, wilson
from worker.evaluation.composition import Array, distance, thumbnail
from worker.evaluation.easel import Drawn
from worker.evaluation.opinion import won
from worker.evaluation.scorer import Scorer


def compare(
    scorer: Scorer, drawn: Sequence[Drawn], *, confidence: float, agreement: Interval | None
) -> ScorerResult | None:
    """What a scorer says of both sides; None where it understands no prompt."""
    judged = [each for each in drawn if scorer.can_judge(each.task.prompt)]
    if not judged:
        return None
    prompts = [each.task.prompt for each in judged]
    candidate = scorer.score([each.candidate for each in judged], prompts)
    champion = scorer.score([each.champion for each in judged], prompts)
    wins = sum(won(mine, theirs) for mine, theirs in zip(candidate, champion, strict=True))
    return ScorerResult(
        scorer=scorer.name,
        measures=scorer.measures,
        candidate=_mean(candidate),
        champion=_mean(champion),
        win_share=wilson(wins, len(judged), confidence),
        agreement=agreement,
    )


def fidelity(scorer: Scorer, drawn: Sequence[Drawn]) -> Comparison | None:
    """How well both sides follow prompts; None unless the scorer understands each of them."""
    if not drawn or not all(scorer.can_judge(each.task.prompt) for each in drawn):
        return None
    prompts = [each.task.prompt for each in drawn]
    return Comparison(
        candidate=_mean(scorer.score([each.candidate for each in drawn], prompts)),
        champion=_mean(scorer.score([each.champion for each in drawn], prompts)),
    )


def drift(drawn: Sequence[Drawn]) -> float | None:
    """How far the candidate's pictures are from the champion's of the same seed: 0 for the same pictures, about 1 for
    pictures that are as different as the champion's of different prompts. None where the champion knows but one.
    """
    thumbnails = [(each.task.prompt, thumbnail(each.candidate), thumbnail(each.champion)) for each in drawn]
    apart = [distance(a, b) for (p, _, a), (q, _, b) in combinations(thumbnails, 2) if p != q]
    scale = _mean(apart) if apart else 0.0
    if scale == 0:
        return None
    return _mean([distance(mine, theirs) for _, mine, theirs in thumbnails]) / scale


def diversity(drawn: Sequence[Drawn]) -> Comparison | None:
    """Mean distance between pictures of one prompt, 0 to 1; None where no prompt was drawn twice.

    Pictures of one prompt have to stand side by side.
    """
    groups = [list(group) for _, group in groupby(drawn, key=lambda each: each.task.prompt)]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return None
    return Comparison(
        candidate=_mean([_spread([thumbnail(each.candidate) for each in group]) for group in groups]),
        champion=_mean([_spread([thumbnail(each.champion) for each in group]) for group in groups]),
    )


def _spread(thumbnails: Sequence[Array]) -> float:
    return _mean([distance(one, other) for one, other in combinations(thumbnails, 2)])


def _mean(figures: Sequence[float]) -> float:
    return float(np.mean(figures))
