"""How good the pictures of a model truly are: what each is worth to most users, and who of two would be chosen.

A picture is worth nothing if it does not show what its prompt says, a half if it does, and one if it is to the taste of
most users as well. The utility of a model is the mean worth of its pictures over requests, two of three with captions
as users write them, the third with full held-out ones. Where users share no taste (they toss coins, they are two camps,
they are out to poison) no picture is worth more than a half, so that only what a prompt says counts.

A candidate is truly worse if its utility is lower than the champion's by more than NOISE. Where it was measured on
pictures the whole interval of the difference has to lie below 0 as well; a simulated candidate's is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 3
NOISE = 0.01
"""Of utility: one picture in fifty that does not show what its prompt says. Nearer than this is as good."""

_Z = 1.96
_SHARP = 0.9  # how often people choose the better of two pictures, and like one that is to their taste
_LIKED = (0.1, 0.5, _SHARP)  # how often a picture of each level gets a thumb up


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares of pictures that are worth 0, a half and 1; together 1."""

    broken: float
    plain: float
    loved: float

    @property
    def utility(self) -> float:
        return self.plain / 2 + self.loved

    @property
    def like_rate(self) -> float:
        """Share of thumbs that are up."""
        return float(np.dot(self.shares, _LIKED))

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.broken, self.plain, self.loved

    @property
    def follows(self) -> float:
        """Share of pictures that show what their prompt says."""
        return self.plain + self.loved

    def without_taste(self) -> "Quality":
        """As it is to people who care for what the prompt says and no more."""
        return Quality(self.broken, self.plain + self.loved, 0.0)

    def reversed_taste(self) -> "Quality":
        """As it is to people who like what the others do not: a broken picture is broken to them too."""
        return Quality(self.broken, self.loved, self.plain)


def win_rate(one: Quality, other: Quality) -> float:
    """How often the first one's picture is chosen of two; who sees no difference says nothing."""
    better = one.loved * (other.broken + other.plain) + one.plain * other.broken
    worse = other.loved * (one.broken + one.plain) + other.plain * one.broken
    return 0.5 + (_SHARP - 0.5) * (better - worse) / (better + worse) if better + worse else 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate's minus base's utility on the same prompts and seeds, with the limits of its 95 % interval."""

    mean: float
    lower: float
    upper: float

    @property
    def says(self) -> str:
        """`worse`, `better`, or `same` where the pictures do not tell."""
        if self.upper < 0 and self.mean < -NOISE:
            return "worse"
        return "better" if self.lower > 0 and self.mean > NOISE else "same"


Joint = Sequence[Sequence[int]]
"""Counts of pictures (3, 3): the row is the level of the base's picture, the column that of the candidate's."""


def without_taste(joint: Joint) -> list[list[int]]:
    """The counts where being to the taste adds nothing."""
    counts = np.asarray(joint)
    folded = np.zeros_like(counts)
    folded[0, 0], folded[0, 1] = counts[0, 0], counts[0, 1:].sum()
    folded[1, 0], folded[1, 1] = counts[1:, 0].sum(), counts[1:, 1:].sum()
    return folded.tolist()


def joint_of(base: Sequence[int], candidate: Sequence[int]) -> list[list[int]]:
    """Count pairs of levels (0, 1 or 2)."""
    counts = np.zeros((LEVELS, LEVELS), dtype=int)
    np.add.at(counts, (list(base), list(candidate)), 1)
    return counts.tolist()


def base_of(joint: Joint) -> Quality:
    """The base's quality as counted."""
    return _quality(np.asarray(joint).sum(axis=1))


def candidate_of(joint: Joint) -> Quality:
    """The candidate's quality as counted."""
    return _quality(np.asarray(joint).sum(axis=0))


def difference_of(joint: Joint) -> Difference:
    """Paired, so that what both draw alike adds no noise."""
    counts = np.asarray(joint, dtype=float)
    steps = (np.arange(LEVELS)[None, :] - np.arange(LEVELS)[:, None]) / 2
    total = counts.sum()
    mean = float((counts * steps).sum() / total)
    spread = float((counts * (steps - mean) ** 2).sum() / max(total - 1, 1))
    margin = _Z * (spread / total) ** 0.5
    return Difference(mean, mean - margin, mean + margin)


def _quality(counts: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Quality:
    broken, plain, loved = (float(count) / float(counts.sum()) for count in counts)
    return Quality(broken, plain, loved)
