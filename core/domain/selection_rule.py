"""The rules that leave feedback out of training, each from rows to the positions that it leaves out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from core.domain.feedback import FeedbackKind
from core.domain.opinion import Judgement, Opinion, Picture, Reasons
from core.domain.perceptual import distance as picture_distance

_LOOKED_BACK = 64
"""Earlier judgements of one user on one prompt that a new one is compared with: many alike are caught all the same,
and nobody can make the comparison of everything with everything expensive."""

_OPPOSED = 1.0
"""Difference of labels of one user that cannot both be meant: a like and a dislike differ by 2, 5 stars and 3 by 1."""

Item = TypeVar("Item")


def group(items: Iterable[Item], key: Callable[[Item], Hashable]) -> Iterable[list[Item]]:
    """The items of each key, in order."""
    found: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found.values()


def comments(opinions: Sequence[Opinion]) -> Reasons:
    """Words never become a gradient."""
    return {
        position: "words are for people to read"
        for position, opinion in enumerate(opinions)
        if opinion.kind is FeedbackKind.COMMENT
    }


def unavailable(opinions: Sequence[Opinion]) -> Reasons:
    """A picture that is gone cannot be trained on."""
    return {
        position: "the picture is not there any more"
        for position, opinion in enumerate(opinions)
        if not opinion.is_available
    }


def foreign(opinions: Sequence[Opinion]) -> Reasons:
    """Only pictures of the base model itself say what it should do."""
    return {
        position: "another base model drew the picture"
        for position, opinion in enumerate(opinions)
        if opinion.is_foreign
    }


def contradictions(opinions: Sequence[Opinion]) -> Reasons:
    """What one user says twice and differently: nobody knows which is meant, so neither counts."""
    found: dict[int, str] = {}
    for positions in group(range(len(opinions)), lambda at: opinions[at].user_ref):
        labels = {at: _label(opinions[at]) for at in positions if opinions[at].kind is not FeedbackKind.CHOICE}
        choices = [at for at in positions if opinions[at].kind is FeedbackKind.CHOICE]
        found |= _opposed_labels(opinions, labels)
        found |= _opposed_choices(opinions, labels, choices)
        found |= _circles(opinions, choices)
    return found


def _label(opinion: Opinion) -> float:
    """A thumb or a rating on one scale, -1 to 1."""
    if opinion.rating is not None:
        return (opinion.rating - 3) / 2
    return 1.0 if opinion.liked else -1.0


def _opposed_labels(opinions: Sequence[Opinion], labels: dict[int, float]) -> Reasons:
    """The same picture, drawn twice, liked once and disliked once."""
    found: dict[int, str] = {}
    for same in group(labels, lambda at: opinions[at].picture.sha256):
        values = [labels[at] for at in same]
        if max(values) - min(values) >= _OPPOSED:
            found |= dict.fromkeys(same, "the same user also said the opposite of the same picture")
    return found


def _opposed_choices(opinions: Sequence[Opinion], labels: dict[int, float], choices: Sequence[int]) -> Reasons:
    """A choice for the picture that the same user disliked, against the one that was liked."""
    label_of = {opinions[at].picture.sha256: at for at in labels}
    found: dict[int, str] = {}
    for at in choices:
        rejected = opinions[at].rejected
        assert rejected is not None
        better, worse = label_of.get(opinions[at].picture.sha256), label_of.get(rejected.sha256)
        if better is not None and worse is not None and labels[worse] - labels[better] >= _OPPOSED:
            found[at] = "the same user labeled the rejected picture clearly higher than the chosen one"
            found |= dict.fromkeys((better, worse), "the same user chose against these labels")
    return found


def _circles(opinions: Sequence[Opinion], choices: Sequence[int]) -> Reasons:
    """Choices that go round in a circle (a before b, b before c, c before a), or lead from one circle to another."""
    edges = {at: _edge(opinions[at]) for at in choices}
    edges = _without_beginnings(edges)
    edges = _without_beginnings({at: (target, source) for at, (source, target) in edges.items()})
    return dict.fromkeys(edges, "the same user's choices go round in a circle")


def _edge(opinion: Opinion) -> tuple[str, str]:
    assert opinion.rejected is not None
    return opinion.picture.sha256, opinion.rejected.sha256


def _without_beginnings(edges: dict[int, tuple[str, str]]) -> dict[int, tuple[str, str]]:
    """The edges without those from a node that none leads to, again and again."""
    arriving = Counter(target for _, target in edges.values())
    leaving: dict[str, list[int]] = defaultdict(list)
    for at, (source, _) in edges.items():
        leaving[source].append(at)
    left, beginnings = dict(edges), [node for node in leaving if not arriving[node]]
    while beginnings:
        for at in leaving[beginnings.pop()]:
            _, target = left.pop(at)
            arriving[target] -= 1
            if not arriving[target] and target in leaving:
                beginnings.append(target)
    return left


def duplicates(judgements: Sequence[Judgement], *, distance: float) -> Reasons:
    """The same verdict of one user on the same prompt, on pictures that look the same; the first one stays."""
    found: dict[int, str] = {}
    for positions in group(range(len(judgements)), lambda at: _verdict(judgements[at])):
        kept: list[int] = []
        for at in positions:
            earlier = kept[-_LOOKED_BACK:]
            if any(_look_the_same(judgements[at], judgements[other], distance) for other in earlier):
                found[at] = "the same user said it before of a picture that looks the same"
            else:
                kept.append(at)
    return found


def _verdict(judgement: Judgement) -> Hashable:
    return judgement.user_ref, judgement.prompt, judgement.kind


def _look_the_same(one: Judgement, other: Judgement, distance: float) -> bool:
    if not _is_near(one.picture, other.picture, distance):
        return False
    if one.rejected is None or other.rejected is None:
        return one.rejected is other.rejected
    return _is_near(one.rejected, other.rejected, distance)


def _is_near(one: Picture, other: Picture, distance: float) -> bool:
    if one.sha256 == other.sha256:
        return True
    if one.perceptual_hash is None or other.perceptual_hash is None:
        return False
    return picture_distance(one.perceptual_hash, other.perceptual_hash) <= distance


def bursts(judgements: Sequence[Judgement], *, count: int, seconds: float) -> Reasons:
    """`count` or more opinions of one user within `seconds`: all of them, for a person does not look so fast.

    Judgements come in order of time.
    """
    found: dict[int, str] = {}
    for positions in group(range(len(judgements)), lambda at: judgements[at].user_ref):
        first, opinions = 0, 0
        for last, at in enumerate(positions):
            opinions += len(judgements[at].sources)
            while (judgements[at].created_at - judgements[positions[first]].created_at).total_seconds() > seconds:
                opinions -= len(judgements[positions[first]].sources)
                first += 1
            if opinions >= count:
                reason = f"{opinions} opinions of this user within {seconds:g} s; {count} are a burst"
                found |= {each: reason for each in positions[first : last + 1] if each not in found}
    return found


def excess(judgements: Sequence[Judgement], *, per_user: int, share: float) -> Reasons:
    """All but a user's newest: at most `per_user`, and at most a share of what all users said, but one in any case.

    The share is of the judgements that come here, so a run of few users may hold a larger share of one user than that.
    """
    most = min(per_user, max(1, int(share * len(judgements) + 1e-9)))
    found: dict[int, str] = {}
    for positions in group(range(len(judgements)), lambda at: judgements[at].user_ref):
        reason = f"this user's newest {most} of {len(positions)} are enough"
        found |= dict.fromkeys(positions[: max(0, len(positions) - most)], reason)
    return found
