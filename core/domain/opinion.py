"""What a user said, as the selection of training data reads it; and why some of it is left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from core.domain.feedback import FeedbackKind
from core.domain.preference import PictureRef, PreferenceKind


class Rule(StrEnum):
    """Why feedback trains nothing, in the order in which the rules are asked."""

    COMMENT = "comment"  # words are for people
    UNAVAILABLE = "unavailable"  # the picture is not there any more
    FOREIGN_MODEL = "foreign_model"  # another base model drew it
    CONTRADICTION = "contradiction"  # the same user said the opposite too
    NEUTRAL = "neutral"  # a rating near the user's mean
    DUPLICATE = "duplicate"  # the same user said it of a picture that looks the same
    BURST = "burst"  # more at once than a person can look at
    RATER = "rater"  # the user agrees with others no more than a coin does
    CAP = "cap"  # the user has said enough


Reasons = Mapping[int, str]
"""Positions that a rule leaves out → why, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image that is judged. Its digest says which picture it is, its id only where it is stored."""

    image_id: UUID
    object_key: str
    sha256: str
    perceptual_hash: str | None = None

    @property
    def ref(self) -> PictureRef:
        """As a manifest names it."""
        return PictureRef(image_id=self.image_id, object_key=self.object_key, sha256=self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Feedback with its pictures; of a choice `picture` is the chosen one."""

    feedback_id: UUID
    user_ref: str
    kind: FeedbackKind
    prompt: str
    picture: Picture
    rejected: Picture | None = None
    liked: bool | None = None
    rating: int | None = None
    tags: tuple[Any, ...] = field(default=())
    created_at: datetime
    is_available: bool = True
    is_foreign: bool = False

    @property
    def sources(self) -> tuple[UUID, ...]:
        """Ids of the feedback that this is."""
        return (self.feedback_id,)

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorts opinions by time and then by what they say, so that ids decide nothing."""
        rejected = self.rejected.sha256 if self.rejected else ""
        said = (self.kind, self.prompt, self.picture.sha256, rejected, self.liked or False, self.rating or 0)
        return (self.created_at, self.user_ref, *said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an opinion, or two ratings together, say: of two pictures one is better, or one is liked or disliked.

    `strength` is 0 to 1. `sources` are the ids of the feedback it is made of, the one on `picture` first.
    """

    kind: PreferenceKind
    user_ref: str
    prompt: str
    picture: Picture
    rejected: Picture | None = None
    strength: float = 1.0
    created_at: datetime
    sources: tuple[UUID, ...]

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorts judgements by time and then by what they say."""
        rejected = self.rejected.sha256 if self.rejected else ""
        return (self.created_at, self.user_ref, self.kind, self.prompt, self.picture.sha256, rejected)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Feedback that trains nothing, the rule that left it out, and the numbers it went by."""

    feedback_id: UUID
    rule: Rule
    detail: str
