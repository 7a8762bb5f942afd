"""Feedback as it comes in over days: who, when, of what; and how it stands for the policy."""

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from bench.safety.condition import BEGIN, Condition, Voter
from core.domain.feedback import FeedbackKind
from core.domain.opinion import Opinion, Picture
from core.domain.policy import Standing
from tiny.taste import draw_caption

_SEEN_BEFORE = 0.1  # share of opinions on pictures that somebody else was shown too
_BURST_CHANCE = 0.02  # an hour, of a user who is not like most
_BURST_SIZE, _BURST_SECONDS = 80, 40.0
_HOUR = timedelta(hours=1)

_Item = tuple[str, Picture, Picture]
"""A prompt, the picture that is to most users' taste, and one that is less so."""


class Feed:
    """All that a tenant's users have said so far, under one condition at a time.

    Args:
        rng: Chance.
        per_day: Opinions a day.
    """

    def __init__(self, rng: np.random.Generator, *, per_day: float) -> None:
        self.now = BEGIN
        self.opinions: list[Opinion] = []
        self._rng, self._per_hour = rng, per_day / 24
        self._items: list[_Item] = []
        self._crowd = rng.bytes(4).hex()  # other tenants have other users, so other ones of them are held out
        self._counted = 0
        self._said: Counter[FeedbackKind] = Counter()
        self._last_update: datetime | None = None

    def wait(self, condition: Condition) -> None:
        """One more hour of feedback."""
        voters = condition.voters(self._rng)
        minutes = sorted(self._rng.uniform(0, 3600, size=self._rng.poisson(self._per_hour)).tolist())
        for seconds in minutes:
            user, voter = next(voters)
            self._say(user, voter, condition, at=self.now + timedelta(seconds=seconds))
        if condition.others and self._rng.random() < _BURST_CHANCE:
            for seconds in np.linspace(0, _BURST_SECONDS, _BURST_SIZE):
                at = self.now + timedelta(seconds=float(seconds))
                self._say("other 0", condition.other, condition, at=at)
        self.now += _HOUR

    def standing(self) -> Standing:
        """What the policy looks at."""
        new = self.opinions[self._counted :]
        thumbs = [opinion for opinion in new if opinion.kind is FeedbackKind.THUMB]
        since = None if self._last_update is None else (self.now - self._last_update) / _HOUR
        return Standing(
            new_labels=len(new),
            users=len({opinion.user_ref for opinion in new}),
            oldest_age_hours=(self.now - new[0].created_at) / _HOUR if new else None,
            hours_since_last_update=since,
            like_rate=sum(bool(opinion.liked) for opinion in thumbs) / len(thumbs) if thumbs else None,
            thumbs=len(thumbs),
            pairs=self._said[FeedbackKind.CHOICE],
            likes=self._said[FeedbackKind.THUMB],
            in_flight_update_id=None,
            in_flight_since=None,
        )

    def count(self) -> None:
        """An update starts: what was said so far will start no other."""
        self._counted = len(self.opinions)

    def rest(self, days: float) -> None:
        """An update was in flight for so long, and has ended. What is said meanwhile is left out."""
        self.now += timedelta(days=days)
        self._last_update = self.now

    def _say(self, user: str, voter: Voter, condition: Condition, *, at: datetime) -> None:
        prompt, better, worse = self._item()
        likes_worse = voter in ("opposite", "likes_broken", "likes_unclear")
        if voter == "random" or (voter == "honest" and self._rng.random() < condition.flipped):
            likes_worse = bool(self._rng.random() < 0.5) if voter == "random" else True
        chosen, rejected = (worse, better) if likes_worse else (better, worse)
        is_thumb = voter == "likes_all"
        self._said[FeedbackKind.THUMB if is_thumb else FeedbackKind.CHOICE] += 1
        self.opinions.append(
            Opinion(
                feedback_id=UUID(int=len(self.opinions)),
                user_ref=f"{self._crowd} {user}",
                kind=FeedbackKind.THUMB if is_thumb else FeedbackKind.CHOICE,
                prompt=prompt,
                picture=chosen,
                rejected=None if is_thumb else rejected,
                liked=True if is_thumb else None,
                created_at=at,
            )
        )

    def _item(self) -> _Item:
        if self._items and self._rng.random() < _SEEN_BEFORE:
            return self._items[int(self._rng.integers(len(self._items)))]
        self._items.append((draw_caption(self._rng).text, self._picture(), self._picture()))
        return self._items[-1]

    def _picture(self) -> Picture:
        digest = self._rng.bytes(32).hex()
        return Picture(image_id=UUID(hex=digest[:32]), object_key=digest, sha256=digest)
