"""Whose turn it is: of all questions that wait, those that the next call of a network answers."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

_CALLS_TOGETHER = 4
PATIENCE = 4
"""A picture is due after so many times the calls that it needs."""


@dataclass(eq=False)
class Waiting:
    """A question that waits: of which picture, for whom, of which shape, how many rows.

    `since` is the call that last answered questions of its shape, or before which it came; by call `due` its picture
    should be done.
    """

    picture: Hashable
    tenant: str
    shape: Hashable
    rows: int
    since: int
    due: int
    is_last: bool = False
    """Whether nothing but this keeps the picture from being done."""


class Turn:
    """The policy, in ten lines:

    1. A call answers questions of one shape (model, network, sizes), as many as the device has room for.
    2. Every tenant has a clock that counts the device seconds of the calls made in its turn.
    3. It is the turn of the tenant whose clock is furthest behind, with the shape that waited longest.
    4. Others who ask the same go along while there is room, at no charge: first by clock, then by due.
    5. A picture is due when four times as many calls have been made as it needs: who needs few goes before who
       needs many and came a little earlier, of like ones who came first ends first, and nobody is overtaken for ever.
    6. Whom a call answered the next three answer first: each change of who takes part costs time.
    7. Who comes anew starts at the clock of who is furthest behind: being away earns nothing.
    8. Whatever only has to be decoded goes before all of this: it leaves, and frees its memory.

    So every tenant gets the same time of the device, and of a tenant's every shape.
    """

    def __init__(self) -> None:
        self._clocks: dict[str, float] = {}
        self._together: list[Hashable] = []
        """The pictures of the last calls; the first is the one whose turn it was."""
        self._calls = 0

    def choose(self, waiting: Sequence[Waiting], *, room: Callable[[Hashable], int]) -> list[Waiting]:
        """The questions to answer now, of one shape, at most `room(shape)` rows but at least one question."""
        self._admit({each.tenant for each in waiting})
        if self._calls == _CALLS_TOGETHER or not any(each.picture in self._together[:1] for each in waiting):
            self._together, self._calls = [], 0
        first = min(waiting, key=self._rank)
        alike = [each for each in waiting if each is not first and each.shape == first.shape]
        chosen, rows = [first], first.rows
        for each in sorted(alike, key=self._rank_of_rider):
            if rows + each.rows <= room(first.shape):
                chosen.append(each)
                rows += each.rows
        if not first.is_last:
            self._together = [each.picture for each in chosen]
            self._calls += 1
        return chosen

    def charge(self, answered: Sequence[Waiting], *, seconds: float) -> None:
        """Count what a call took, for the one whose turn it was; who has left since has no clock any more."""
        if answered[0].tenant in self._clocks:
            self._clocks[answered[0].tenant] += seconds

    def _admit(self, tenants: set[str]) -> None:
        known = [clock for tenant, clock in self._clocks.items() if tenant in tenants]
        start = min(known, default=0.0)
        self._clocks = {tenant: self._clocks.get(tenant, start) for tenant in tenants}

    def _rank(self, each: Waiting) -> tuple[bool, bool, bool, float, int, int]:
        is_rider, is_new = each.picture not in self._together[:1], each.picture not in self._together
        return (not each.is_last, is_rider, is_new, self._clocks[each.tenant], each.since, each.due)

    def _rank_of_rider(self, each: Waiting) -> tuple[bool, float, int]:
        return (each.picture not in self._together, self._clocks[each.tenant], each.due)
