"""The kinds of feedback that the loop is tried on: who says what of which pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

Voter = Literal["honest", "opposite", "random", "likes_all", "likes_broken", "likes_unclear"]
USERS = 32
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first opinion is given."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`count` opinions; most users are `most`, a share `other_share` of the opinions comes from `other` ones.

    `others` is how many of the users those are. An honest choice is `flipped` by mistake that often. Where users share
    no taste (`has_taste` is False) pictures are worth what their prompts say and no more.
    """

    name: str
    count: int
    most: Voter = "honest"
    other: Voter = "opposite"
    others: int = 0
    other_share: float = 0.0
    flipped: float = 0.0

    @property
    def has_taste(self) -> bool:
        return self.most == "honest" and self.other_share < 0.5

    @property
    def is_thumbs(self) -> bool:
        return self.most == "likes_all"

    def voters(self, rng: np.random.Generator) -> Iterator[tuple[str, Voter]]:
        """User and manner of each opinion, without end."""
        while True:
            if rng.random() < self.other_share:
                yield f"other {rng.integers(self.others)}", self.other
            else:
                yield f"user {rng.integers(USERS - self.others)}", self.most


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("clean, 256", 256),
        Condition("clean, 40", 40),
        Condition("no signal", 256, most="random"),
        Condition("30 % flipped", 256, flipped=0.3),
        Condition("one hostile user, 5 %", 256, others=1, other_share=0.05),
        Condition("one hostile user, 30 %", 256, others=1, other_share=0.3),
        Condition("all liked", 256, most="likes_all"),
        Condition("two camps", 256, others=USERS // 2, other_share=0.5),
        Condition("poison: another prompt's picture", 256, most="likes_broken"),
        Condition("poison: unclear shapes", 256, most="likes_unclear"),
    )
}

Trial = tuple[str, str, int]
"""Condition, taste, and the seed of pictures, people and training."""

_TASTES = ("warm", "large", "cool_background", "left")
_TIMES = {
    "clean, 256": 8,
    "clean, 40": 3,
    "no signal": 3,
    "30 % flipped": 4,
    "one hostile user, 5 %": 2,
    "one hostile user, 30 %": 3,
    "all liked": 2,
    "two camps": 3,
    "poison: another prompt's picture": 2,
    "poison: unclear shapes": 2,
}

TRIALS: tuple[Trial, ...] = tuple(
    # The seed's parity changes places each time that the tastes begin again, so that each taste meets both.
    (name, _TASTES[turn % len(_TASTES)], turn + turn // len(_TASTES))
    for name, times in _TIMES.items()
    for turn in range(times)
)
"""What is trained for real; the taste says which pictures were to choose from, also where nobody has it."""


def is_reckless(trial: Trial) -> bool:
    """Every other training is held back by nothing, so that the gates have something to find."""
    return trial[2] % 2 == 0


def by_rounds(trials: tuple[Trial, ...]) -> list[Trial]:
    """One of each condition, then the next of each, so that a run cut short has seen them all."""
    turns: dict[str, int] = {}
    order = []
    for trial in trials:
        turns[trial[0]] = turns.get(trial[0], 0) + 1
        order.append((turns[trial[0]], trial))
    return [trial for _, trial in sorted(order, key=lambda each: each[0])]
