"""Opinions for the tests of their selection: pictures by number, a minute between two words."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from core.domain.feedback import FeedbackKind
from core.domain.opinion import Judgement, Opinion, Picture
from core.domain.preference import PreferenceKind

START = datetime(2026, 1, 1, tzinfo=UTC)
_CLOCK = count()


def picture(name: object, *, perceptual_hash: str | None = None) -> Picture:
    digest = hashlib.sha256(str(name).encode()).hexdigest()
    return Picture(image_id=uuid4(), object_key=f"job/{name}.png", sha256=digest, perceptual_hash=perceptual_hash)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def opinion(kind: FeedbackKind, name: object, *, user: str = "ann", **changes: Any) -> Opinion:
    fields: dict[str, Any] = {
        "feedback_id": uuid4(),
        "user_ref": user,
        "kind": kind,
        "prompt": "a star",
        "picture": picture(name),
        "created_at": at(next(_CLOCK)),
    }
    return Opinion(**(fields | changes))


def thumb(name: object, liked: bool = True, **changes: Any) -> Opinion:
    return opinion(FeedbackKind.THUMB, name, liked=liked, **changes)


def rating(name: object, stars: int, **changes: Any) -> Opinion:
    return opinion(FeedbackKind.RATING, name, rating=stars, **changes)


def choice(chosen: object, rejected: object, **changes: Any) -> Opinion:
    return opinion(FeedbackKind.CHOICE, chosen, rejected=picture(rejected), **changes)


def judgement(name: object, kind: PreferenceKind = PreferenceKind.LIKED, **changes: Any) -> Judgement:
    fields: dict[str, Any] = {
        "kind": kind,
        "user_ref": "ann",
        "prompt": "a star",
        "picture": picture(name),
        "created_at": at(next(_CLOCK)),
        "sources": (uuid4(),),
    }
    return Judgement(**(fields | changes))
