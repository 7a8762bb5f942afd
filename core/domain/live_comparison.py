"""What people say of pictures in a rollout becomes comparisons of its two arms.

A side-by-side request shows one user both arms, so its first word on both is one comparison. Where a user sees one arm
only, what he says tells as much of him as of the pictures: of each such user the first word counts, paired with the
nearest in time that waits in the other arm. A user who saw both arms in requests of their own is compared with himself.
A comparison is the voice of its user, or of the two whose first words it takes: nobody has more than two voices.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from core.domain.feedback import FeedbackKind
from core.domain.rollout import Arm


@dataclass(frozen=True, kw_only=True)
class LiveOpinion:
    """One current word on pictures of a rollout.

    `arm` is that of the picture, or of the chosen one; `rejected_arm` is a choice's other. `score` of a thumb is 0
    or 1, of a rating 0 to 1. `side_by_side`: the request drew pictures of both arms.
    """

    user_ref: str
    request: str
    kind: FeedbackKind
    arm: Arm
    rejected_arm: Arm | None = None
    score: float | None = None
    side_by_side: bool = False


@dataclass(frozen=True)
class Comparison:
    """How much better the challenger was liked, -1 to 1, and by whose voice."""

    difference: float
    voice: str


@dataclass(frozen=True)
class Thumb:
    """A thumb on a picture of one arm, and by whose voice."""

    liked: bool
    voice: str


def compare(opinions: Iterable[LiveOpinion], *, max_per_user: int) -> list[Comparison]:
    """The comparisons that opinions, oldest first, amount to; at most `max_per_user` of one user."""
    desk = _Desk(max_per_user)
    for opinion in opinions:
        desk.take(opinion)
    return desk.comparisons


def thumbs_of(opinions: Iterable[LiveOpinion], arm: Arm, *, max_per_user: int) -> list[Thumb]:
    """The thumbs on one arm's pictures, oldest first; at most `max_per_user` of one user."""
    counts: dict[str, int] = defaultdict(int)
    found = []
    for opinion in opinions:
        if opinion.kind is FeedbackKind.THUMB and opinion.arm is arm and counts[opinion.user_ref] < max_per_user:
            counts[opinion.user_ref] += 1
            found.append(Thumb(bool(opinion.score), opinion.user_ref))
    return found


_Waiting = dict[FeedbackKind, list[LiveOpinion]]


@dataclass
class _Desk:
    """Pairs what belongs together as it comes in."""

    max_per_user: int
    comparisons: list[Comparison] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _requests: dict[tuple[str, str], _Waiting] = field(default_factory=dict)
    _compared: set[tuple[str, str]] = field(default_factory=set)
    _users: dict[str, _Waiting] = field(default_factory=dict)
    _lone: _Waiting = field(default_factory=dict)

    def take(self, opinion: LiveOpinion) -> None:
        if opinion.side_by_side:
            self._take_side_by_side(opinion)
        elif opinion.score is not None:
            self._take_lone(opinion)

    def _take_side_by_side(self, opinion: LiveOpinion) -> None:
        place = opinion.user_ref, opinion.request
        if place in self._compared:
            return
        if opinion.kind is FeedbackKind.CHOICE:
            if opinion.rejected_arm not in (None, opinion.arm):
                self._compared.add(place)
                self._add(1.0 if opinion.arm is Arm.CHALLENGER else -1.0, [opinion.user_ref])
        elif opinion.score is not None:
            other = _match(self._requests.setdefault(place, {}), opinion)
            if other is not None:
                self._compared.add(place)
                self._add(_difference(opinion, other), [opinion.user_ref])

    def _take_lone(self, opinion: LiveOpinion) -> None:
        is_first = opinion.user_ref not in self._users
        own = self._users.setdefault(opinion.user_ref, {})
        other = _match(self._lone if is_first else own, opinion)
        if other is not None:
            self._add(_difference(opinion, other), list({opinion.user_ref, other.user_ref}))

    def _add(self, difference: float, users: Sequence[str]) -> None:
        if max(self._counts[user] for user in users) >= self.max_per_user:
            return
        for user in users:
            self._counts[user] += 1
        self.comparisons.append(Comparison(difference, "\n".join(sorted(users))))


def _match(waiting: _Waiting, opinion: LiveOpinion) -> LiveOpinion | None:
    """The latest that waits in the other arm with the same kind of word, taken out; else the opinion waits."""
    line = waiting.setdefault(opinion.kind, [])
    if line and line[-1].arm is not opinion.arm:
        return line.pop()
    line.append(opinion)
    return None


def _difference(one: LiveOpinion, other: LiveOpinion) -> float:
    assert one.score is not None
    assert other.score is not None
    return one.score - other.score if one.arm is Arm.CHALLENGER else other.score - one.score
