"""The scorers of one evaluation, each beside how often it sides with opinions it has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from core.domain.evaluation import Comparison, Interval, Measure, ScorerResult
from core.domain.preference import PreferenceRow
from worker.evaluation import comparison
from worker.evaluation.clip_scorer import load_scorers
from worker.evaluation.easel import Drawn
from worker.evaluation.opinion import Scored, agreement
from worker.evaluation.scorer import RuleScorer, Scorer, Watched
from worker.evaluation.taste_probe import TasteProbe


@dataclass(frozen=True, slots=True)
class Evidence:
    """Opinions whose pictures are at hand: those trained on, and those held out. `pictures` are paths by digest."""

    training: Sequence[PreferenceRow]
    held_out: Sequence[PreferenceRow]
    pictures: Mapping[str, Path]


class Panel:
    """The rule scorer, a taste probe fitted to the training opinions, and CLIP models where they are configured.

    `notes` say which could not be had, and which do not speak for the users. `on_look` is called before every picture
    that one of them looks at.
    """

    def __init__(
        self,
        evidence: Evidence,
        *,
        paths: Mapping[str, Path],
        device: torch.device,
        confidence: float,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self._confidence = confidence
        loaded, self.notes = load_scorers(paths, device=device)
        scorers: list[Scorer] = [RuleScorer(), *loaded]
        try:
            scorers.append(TasteProbe(evidence.training, evidence.pictures))
        except ValueError as error:
            self.notes.append(f"There is no taste probe: {error}.")
        self._members: list[tuple[Scorer, Interval | None]] = []
        for scorer in (Watched(each, on_look) for each in scorers):
            found = None
            if scorer.measures is Measure.PREFERENCE:
                found = agreement(_scored(scorer, evidence), confidence=confidence)
            self._members.append((scorer, found))

    def compare(self, drawn: Sequence[Drawn]) -> tuple[ScorerResult, ...]:
        """What each says of both sides, those left out that understand no prompt."""
        asked = [
            comparison.compare(scorer, drawn, confidence=self._confidence, agreement=found)
            for scorer, found in self._members
        ]
        results = tuple(result for result in asked if result is not None)
        for result in results:
            if result.measures is Measure.PREFERENCE and not result.speaks_for_users:
                found = result.agreement
                told = f"{found.value:.2f} of {found.count}" if found else "none of 0"
                self.notes.append(f"{result.scorer} sides with {told} held-out opinions: it does not speak for users.")
        return results

    def fidelity(self, drawn: Sequence[Drawn]) -> Comparison | None:
        """How well both sides follow these prompts, by the first scorer of fidelity that understands them all."""
        for scorer, _ in self._members:
            if scorer.measures is Measure.FIDELITY and (found := comparison.fidelity(scorer, drawn)):
                self.notes.append(f"Fidelity is told by {scorer.name}, on {len(drawn)} pictures of either side.")
                return found
        self.notes.append("No scorer of fidelity understands the unrelated prompts.")
        return None


def _scored(scorer: Scorer, evidence: Evidence) -> list[Scored]:
    rows = [row for row in evidence.held_out if scorer.can_judge(row.prompt)]

    def figure(digest: str, prompt: str) -> float:
        with Image.open(evidence.pictures[digest]) as picture:
            return scorer.score([picture.convert("RGB")], [prompt])[0]

    return [
        Scored(
            row,
            figure(row.picture.sha256, row.prompt),
            figure(row.rejected.sha256, row.prompt) if row.rejected else None,
        )
        for row in rows
    ]
