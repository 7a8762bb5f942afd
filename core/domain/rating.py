"""Stars become judgements: what a user's rating says beside the same user's other ratings."""

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from core.domain.feedback import FeedbackKind
from core.domain.opinion import Judgement, Opinion, Reasons
from core.domain.preference import PreferenceKind
from core.domain.selection_rule import group

MIDDLE = 0.5
"""Scores no further than this from the user's mean are neither likes nor dislikes."""

APART = 1.0
"""Two ratings of one prompt that differ by so much in score make a pair."""

_LEAST_SPREAD = 1.0
"""Stars. A user who rates everything 4 or 5 does not mean that a 4 is a disaster."""

_SCALE_MIDDLE = 3


def judge(opinions: Sequence[Opinion]) -> tuple[list[Judgement], Reasons]:
    """What opinions say, and the ratings that say nothing.

    Thumbs and choices are taken as they are. A rating's score is its distance from the mean of the user's ratings in
    standard deviations (at least one star); of a user with one rating it is the distance from three stars. Of one
    prompt the highest and the lowest score make a pair while they are 1 apart, and so on inwards; what is left is a
    like or a dislike as strong as its score, or neutral.
    """
    judged = [_plain(opinion) for opinion in opinions if opinion.kind is not FeedbackKind.RATING]
    neutral: dict[int, str] = {}
    rated = [at for at, opinion in enumerate(opinions) if opinion.kind is FeedbackKind.RATING]
    for by_user in group(rated, lambda at: opinions[at].user_ref):
        scores = dict(zip(by_user, score([opinions[at].rating or 0 for at in by_user]), strict=True))
        for same in group(by_user, lambda at: opinions[at].prompt):
            pairs, alone = _pair_up(same, scores)
            judged += [_pair(opinions[high], opinions[low], scores[high] - scores[low]) for high, low in pairs]
            judged += [_single(opinions[at], scores[at]) for at in alone if abs(scores[at]) > MIDDLE]
            neutral |= {at: _in_the_middle(scores[at]) for at in alone if abs(scores[at]) <= MIDDLE}
    return judged, neutral


def score(ratings: Sequence[int]) -> list[float]:
    """What each of one user's ratings says, on a scale on which 0 says nothing."""
    if len(ratings) == 1:
        return [float(ratings[0] - _SCALE_MIDDLE)]
    spread = max(_LEAST_SPREAD, pstdev(ratings))
    mean = fmean(ratings)
    return [(rating - mean) / spread for rating in ratings]


def _pair_up(positions: Sequence[int], scores: Mapping[int, float]) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of the highest and the lowest, and who is left."""
    order = sorted(positions, key=lambda at: (-scores[at], at))
    pairs = []
    while len(order) > 1 and scores[order[0]] - scores[order[-1]] >= APART:
        pairs.append((order[0], order[-1]))
        order = order[1:-1]
    return pairs, order


def _plain(opinion: Opinion) -> Judgement:
    if opinion.kind is FeedbackKind.CHOICE:
        kind = PreferenceKind.PAIR
    else:
        kind = PreferenceKind.LIKED if opinion.liked else PreferenceKind.DISLIKED
    return Judgement(
        kind=kind,
        user_ref=opinion.user_ref,
        prompt=opinion.prompt,
        picture=opinion.picture,
        rejected=opinion.rejected,
        created_at=opinion.created_at,
        sources=(opinion.feedback_id,),
    )


def _pair(high: Opinion, low: Opinion, difference: float) -> Judgement:
    return Judgement(
        kind=PreferenceKind.PAIR,
        user_ref=high.user_ref,
        prompt=high.prompt,
        picture=high.picture,
        rejected=low.picture,
        strength=min(1.0, difference / 2),
        created_at=max(high.created_at, low.created_at),
        sources=(high.feedback_id, low.feedback_id),
    )


def _single(opinion: Opinion, score_of: float) -> Judgement:
    return Judgement(
        kind=PreferenceKind.LIKED if score_of > 0 else PreferenceKind.DISLIKED,
        user_ref=opinion.user_ref,
        prompt=opinion.prompt,
        picture=opinion.picture,
        strength=min(1.0, abs(score_of)),
        created_at=opinion.created_at,
        sources=(opinion.feedback_id,),
    )


def _in_the_middle(score_of: float) -> str:
    return f"{score_of:+.2f} from the middle of this user's ratings; a like or a dislike is more than {MIDDLE} away"
