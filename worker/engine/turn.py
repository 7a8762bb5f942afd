"""Whose turn it is: of all questions that wait, those that the next call of a network answers."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

_CALLS_TOGETHER = 4


@dataclass(eq=False)
class Waiting:
    """A question that waits: of which picture, for whom, of which shape, how many rows, and since which call."""

    picture: Hashable
    tenant: str
    shape: Hashable
    rows: int
    since: int
    is_last: bool = False
    """Whether nothing but this keeps the picture from being done."""


class Turn:
    """The policy, in ten lines:

    1. A call answers questions of one shape (model, network, sizes), as many as the device has room for.
    2. Every tenant has a clock that counts the device seconds of the calls made in its turn.
    3. It is the turn of the tenant whose clock is furthest behind, with the question that waited longest.
    4. Others who ask the same go along while there is room, at no charge: first by clock, then by waiting.
    5. Whom a call answered the next three answer first: each change of who takes part costs time.
    6. Who comes anew starts at the clock of who is furthest behind: being away earns nothing.
    7. Whatever only has to be decoded goes before all of this: it leaves, and frees its memory.

    So every tenant gets the same time of the device, and every question of a tenant has its turn.
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
        first, *others = sorted(waiting, key=self._rank)
        chosen, rows = [first], first.rows
        for each in others:
            if each.shape == first.shape and rows + each.rows <= room(first.shape):
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

    def _rank(self, each: Waiting) -> tuple[bool, bool, bool, float, int]:
        is_new, is_rider = each.picture not in self._together, each.picture not in self._together[:1]
        return (not each.is_last, is_rider, is_new, self._clocks[each.tenant], each.since)
