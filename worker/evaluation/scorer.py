"""Scorers: what is said of pictures, each behind one small interface."""

from collections.abc import Callable, Sequence
from typing import Protocol

from PIL import Image

from core.domain.evaluation import Measure
from tiny import world
from tiny.scorer import score


class Scorer(Protocol):
    """Says of pictures how good they are, more being better; only figures of one scorer can be compared.

    Nothing that it is asked changes what it answers later.
    """

    name: str
    measures: Measure

    def can_judge(self, prompt: str) -> bool:
        """Whether it understands this prompt."""
        ...

    def score(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """A figure for each picture beside its prompt, all of which it can judge."""
        ...


class Watched:
    """A scorer that looks at one picture after the other, and tells `on_look` before each that it goes on."""

    def __init__(self, scorer: Scorer, on_look: Callable[[], None]) -> None:
        self.name, self.measures = scorer.name, scorer.measures
        self._scorer, self._on_look = scorer, on_look

    def can_judge(self, prompt: str) -> bool:
        """See Scorer."""
        return self._scorer.can_judge(prompt)

    def score(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """See Scorer."""
        found: list[float] = []
        for picture, prompt in zip(pictures, prompts, strict=True):
            self._on_look()
            found += self._scorer.score([picture], [prompt])
        return found


class RuleScorer:
    """Reads pictures of the tiny world by rules: the share of the caption's attributes that a picture shows."""

    name = "rule"
    measures = Measure.FIDELITY

    def can_judge(self, prompt: str) -> bool:
        """Whether it is a sentence of the tiny world."""
        return is_tiny(prompt)

    def score(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """1.0 where a picture shows everything that its caption names."""
        return [_share(picture, world.parse(prompt)) for picture, prompt in zip(pictures, prompts, strict=True)]


def is_tiny(prompt: str) -> bool:
    """Whether a prompt is a sentence of the tiny world."""
    try:
        world.parse(prompt)
    except ValueError:
        return False
    return True


def _share(picture: Image.Image, caption: world.Caption) -> float:
    shown = score(picture, caption)
    named = [name for name in ("shape", "color", "size", "background") if getattr(caption, name) is not None]
    return sum(getattr(shown, name) for name in named) / len(named)
