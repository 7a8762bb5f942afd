"""What simulated people say of pictures in a rollout, one opinion after the other without end."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from core.domain.feedback import FeedbackKind
from core.domain.live_comparison import LiveOpinion
from core.domain.rollout import Arm

Rates = Mapping[Arm, float]
Users = Iterator[str]


def fresh_users() -> Users:
    """Everybody speaks once."""
    return (f"user {number}" for number in itertools.count())


def returning_users(rng: np.random.Generator, count: int) -> Users:
    """The same people again and again, in any order."""
    while True:
        yield from (f"user {number}" for number in rng.integers(count, size=64))


def with_loud_user(rng: np.random.Generator, users: Users, share: float) -> Users:
    """One user gives this share of the opinions."""
    while True:
        yield from ("loud" if is_loud else next(users) for is_loud in rng.random(64) < share)


def choice(user: str, request: str, *, wins: bool) -> LiveOpinion:
    """One side-by-side request; `wins` where the challenger's picture is chosen."""
    chosen, rejected = (Arm.CHALLENGER, Arm.INCUMBENT) if wins else (Arm.INCUMBENT, Arm.CHALLENGER)
    return LiveOpinion(
        user_ref=user, request=request, kind=FeedbackKind.CHOICE, arm=chosen, rejected_arm=rejected, side_by_side=True
    )


def choices(rng: np.random.Generator, users: Users, *, win_rate: float) -> Iterator[LiveOpinion]:
    """Side-by-side requests: the challenger's picture is chosen this often. The loud user always votes against it."""
    for request in itertools.count():
        user = next(users)
        yield choice(user, str(request), wins=user != "loud" and rng.random() < win_rate)


def stubborn_choices(rng: np.random.Generator, users: Users) -> Iterator[LiveOpinion]:
    """As choices at a win rate of a half, but each user made up his mind once, by a coin, and never changes it."""
    minds: dict[str, bool] = {}
    for opinion in choices(rng, users, win_rate=1.0):
        mind = minds.setdefault(opinion.user_ref, bool(rng.random() < 0.5))
        yield choice(opinion.user_ref, opinion.request, wins=mind)


def thumbs(rng: np.random.Generator, users: Users, *, rates: Rates, challenger_share: float) -> Iterator[LiveOpinion]:
    """Pictures of one arm each, up or down; a user stays in the arm he came to first. The loud one dislikes all."""
    arms: dict[str, Arm] = {}
    for request in itertools.count():
        user = next(users)
        drawn = Arm.CHALLENGER if rng.random() < challenger_share else Arm.INCUMBENT
        arm = arms.setdefault(user, drawn)
        liked = user != "loud" and rng.random() < rates[arm]
        yield LiveOpinion(user_ref=user, request=str(request), kind=FeedbackKind.THUMB, arm=arm, score=float(liked))


def side_by_side_thumbs(rng: np.random.Generator, users: Users, *, rates: Rates) -> Iterator[LiveOpinion]:
    """Both pictures of a side-by-side request get a thumb each."""
    for request in itertools.count():
        user = next(users)
        for arm in (Arm.CHALLENGER, Arm.INCUMBENT):
            yield LiveOpinion(
                user_ref=user,
                request=str(request),
                kind=FeedbackKind.THUMB,
                arm=arm,
                score=float(user != "loud" and rng.random() < rates[arm]),
                side_by_side=True,
            )
