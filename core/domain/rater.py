"""How far each user can be believed: how often the user agrees with what others say of the same pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.domain.agreement import Vote, agreements
from core.domain.opinion import Judgement, Reasons
from core.domain.preference import PreferenceKind

_BELIEVED = 0.8
"""Agreement that is taken for granted of a user nobody can be compared with."""

_BELIEVED_VOTES = 4
"""Votes that this belief is worth: those of one's own soon outweigh it."""

_LEAST_WEIGHT = 0.05

_TELLING_VOTES = 20
_MOST_MISTAKEN = 0.4


@dataclass(frozen=True)
class Rater:
    """One user: opinions shared with others, and the share of them in which the user agrees with the others."""

    overlap: int
    agreement: float

    @property
    def weight(self) -> float:
        """1 for somebody who is always right, near 0 for a coin; between them as 2p - 1 of a cautious estimate of p."""
        estimate = (self.agreement * self.overlap + _BELIEVED * _BELIEVED_VOTES) / (self.overlap + _BELIEVED_VOTES)
        return max(_LEAST_WEIGHT, 2 * estimate - 1)


def flip_rate(raters: Iterable[Rater]) -> float:
    """Share of opinions that are believed to be mistaken: how seldom raters agree with others. 0 where few can tell."""
    compared = [rater for rater in raters if rater.overlap]
    votes = sum(rater.overlap for rater in compared)
    if votes < _TELLING_VOTES:
        return 0.0
    return round(min(_MOST_MISTAKEN, sum(rater.overlap * (1 - rater.agreement) for rater in compared) / votes), 2)


def rate(judgements: Sequence[Judgement]) -> Mapping[str, Rater]:
    """Every user of these judgements; of one that shares nothing with others the agreement is 0 of 0."""
    found = agreements([_vote(each) for each in judgements])
    users = dict.fromkeys(each.user_ref for each in judgements)
    return {user: Rater(*found.get(user, (0, 0.0))) for user in users}


def untrusted(
    judgements: Sequence[Judgement], raters: Mapping[str, Rater], *, min_overlap: int, min_agreement: float
) -> Reasons:
    """Everything that is said by users who were compared often enough, and agree with others too seldom."""
    doubted = {
        user: f"this user agrees with others in {rater.agreement:.0%} of {rater.overlap} shared opinions"
        for user, rater in raters.items()
        if rater.overlap >= min_overlap and rater.agreement <= min_agreement
    }
    return {at: doubted[each.user_ref] for at, each in enumerate(judgements) if each.user_ref in doubted}


def _vote(judgement: Judgement) -> Vote:
    """What is voted on is a picture, or two pictures in either order."""
    if judgement.rejected is None:
        return Vote(judgement.user_ref, (judgement.picture.sha256,), judgement.kind is PreferenceKind.LIKED)
    first, second = sorted((judgement.picture.sha256, judgement.rejected.sha256))
    return Vote(judgement.user_ref, (first, second), judgement.picture.sha256 == first)
