"""How often figures of pictures side with opinions on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.domain.evaluation import Interval, wilson
from core.domain.preference import PreferenceKind, PreferenceRow


@dataclass(frozen=True, slots=True)
class Scored:
    """An opinion, and figures of its picture and of the rejected one where there is one."""

    row: PreferenceRow
    picture: float
    rejected: float | None = None


def agreement(scored: Sequence[Scored], *, confidence: float) -> Interval | None:
    """The share of opinions that the figures side with; None where there is nothing that could be sided with.

    A pair is sided with if the chosen picture's figure is higher; ties count half. Single opinions are compared with
    each other: each of the rarer kind counts as one, by the share of the other kind that it stands on the right side
    of. So chance is 0.5 whatever the share of likes, and a crowd that likes everything says nothing.
    """
    pairs = [won(each.picture, each.rejected) for each in scored if each.rejected is not None]
    liked = [each.picture for each in scored if each.row.kind is PreferenceKind.LIKED]
    disliked = [each.picture for each in scored if each.row.kind is PreferenceKind.DISLIKED]
    count = len(pairs) + min(len(liked), len(disliked))
    if not count:
        return None
    successes = sum(pairs)
    if liked and disliked:
        right = sum(won(high, low) for high in liked for low in disliked)
        successes += right / max(len(liked), len(disliked))
    return wilson(min(successes, count), count, confidence)


def won(one: float, other: float) -> float:
    """1 where the first figure is higher, 0 where it is lower; a tie is half."""
    return 0.5 if one == other else float(one > other)
