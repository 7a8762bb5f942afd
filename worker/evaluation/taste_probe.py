"""A judge of taste that knows nothing of the model: a line through what pictures look like, fitted to opinions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.domain.evaluation import Measure
from core.domain.preference import PreferenceKind, PreferenceRow
from worker.evaluation.composition import describe

Array = np.ndarray[Any, np.dtype[Any]]
See = Callable[[Sequence[Image.Image]], Array]
"""Figures (pictures, n) of pictures."""

_RIDGE = 1.0
_STEPS = 25
_LEAST_SPREAD = 1e-6


class TasteProbe:
    """Scores a picture by a weighted sum of what it looks like; the prompt does not matter to it.

    Args:
        rows: Opinions to learn from.
        pictures: Where their pictures are, by digest.
        see: What it sees of a picture.

    Raises:
        ValueError: there is no pair among the opinions, nor a liked beside a disliked picture.
    """

    name = "taste_probe"
    measures = Measure.PREFERENCE

    def __init__(self, rows: Sequence[PreferenceRow], pictures: Mapping[str, Path], *, see: See = describe) -> None:
        self._see = see
        digests = {ref.sha256 for row in rows for ref in (row.picture, row.rejected) if ref}
        seen = {digest: self._look(pictures[digest]) for digest in sorted(digests)}
        differences, weights = _differences(rows, seen)
        if not differences:
            raise ValueError("the opinions hold no pair, and no liked beside a disliked picture")
        self._spread = np.maximum(np.stack(list(seen.values())).std(axis=0), _LEAST_SPREAD)
        self._line = _fit(np.stack(differences) / self._spread, np.array(weights) / np.mean(weights))

    def can_judge(self, prompt: str) -> bool:  # noqa: ARG002 - it looks at the picture alone
        """Any prompt."""
        return True

    def score(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Of two pictures, the difference is the log odds that the first is liked better."""
        assert len(pictures) == len(prompts)
        return [float(self._see([picture])[0] / self._spread @ self._line) for picture in pictures]

    def _look(self, path: Path) -> Array:
        with Image.open(path) as picture:
            figures: Array = self._see([picture])[0]
        return figures


def _differences(rows: Sequence[PreferenceRow], seen: Mapping[str, Array]) -> tuple[list[Array], list[float]]:
    """What is better minus what is worse, and how much that weighs.

    A single opinion stands against the average picture of the opposite opinion; likes and dislikes weigh the same
    in all, so that a crowd that likes nearly everything still says which few it does not.
    """
    differences: list[Array] = []
    weights: list[float] = []
    for row in rows:
        if row.rejected is not None:
            differences.append(seen[row.picture.sha256] - seen[row.rejected.sha256])
            weights.append(row.weight)
    liked = [row for row in rows if row.kind is PreferenceKind.LIKED]
    disliked = [row for row in rows if row.kind is PreferenceKind.DISLIKED]
    if liked and disliked:
        total = sum(row.weight for row in (*liked, *disliked))
        for ones, others, sign in ((liked, disliked, 1.0), (disliked, liked, -1.0)):
            average = np.mean([seen[row.picture.sha256] for row in others], axis=0)
            share = total / 2 / sum(row.weight for row in ones)
            differences += [sign * (seen[row.picture.sha256] - average) for row in ones]
            weights += [share * row.weight for row in ones]
    return differences, weights


def _fit(differences: Array, weights: Array) -> Array:
    """The line that makes the differences likely: logistic regression with a ridge, by Newton's steps."""
    line = np.zeros(differences.shape[1])
    ridge = _RIDGE * np.eye(len(line))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(differences @ line, -30, 30)))
        slope = differences.T @ (weights * (1 - chance)) - _RIDGE * line
        curve = (differences * (weights * chance * (1 - chance))[:, None]).T @ differences + ridge
        step = np.linalg.solve(curve, slope)
        line = line + step
        if np.abs(step).max() < 1e-6:
            break
    return line
