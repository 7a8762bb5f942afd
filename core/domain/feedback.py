"""What a user says of an image: a thumb, a rating, a choice between two, a comment."""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from core.domain.value import Bool, Int, Specification, Text


class FeedbackKind(StrEnum):
    THUMB = "thumb"
    RATING = "rating"
    CHOICE = "choice"
    COMMENT = "comment"


RATED_TYPE = "image"
"""Of the files that a job makes, only pictures that were asked for are judged; samples of a training are not."""

ANONYMOUS = "anonymous"
"""The user of a token whose picture was asked for without a user_ref."""

UserRef = Annotated[Text, Field(min_length=1, max_length=200)]
"""The caller's own opaque name of a user."""

Tag = Annotated[Text, Field(min_length=1, max_length=50)]
Token = Annotated[Text, Field(max_length=200)]


class _Feedback(Specification):
    """`user_ref` goes with an API key, `feedback_token` stands in its place."""

    user_ref: UserRef | None = Field(default=None, description="who says it; required with an API key")
    comment: Annotated[Text, Field(max_length=2000)] | None = None
    tags: Annotated[tuple[Tag, ...], Field(max_length=20)] = ()
    feedback_token: Token | None = Field(
        default=None, description="of the image's output; lets a caller without an API key rate it"
    )


class ThumbSpec(_Feedback):
    """A picture is liked, or it is not."""

    kind: Literal["thumb"]
    image_id: UUID
    liked: Bool


class RatingSpec(_Feedback):
    """A picture gets one to five stars."""

    kind: Literal["rating"]
    image_id: UUID
    rating: Annotated[Int, Field(ge=1, le=5)]


class ChoiceSpec(_Feedback):
    """Of two pictures of one prompt, one is better. Without an API key it takes the tokens of both."""

    kind: Literal["choice"]
    chosen: UUID
    rejected: UUID
    rejected_feedback_token: Token | None = None


class CommentSpec(_Feedback):
    """Words on a picture. They are kept for people to read, and train nothing."""

    kind: Literal["comment"]
    image_id: UUID
    comment: Annotated[Text, Field(min_length=1, max_length=2000)]


FeedbackSpec = Annotated[ThumbSpec | RatingSpec | ChoiceSpec | CommentSpec, Field(discriminator="kind")]


def images_of(spec: FeedbackSpec) -> dict[str, UUID]:
    """Field → the image that it names: the one that is spoken of, or the chosen one, comes first."""
    if isinstance(spec, ChoiceSpec):
        return {"chosen": spec.chosen, "rejected": spec.rejected}
    return {"image_id": spec.image_id}


def subject_of(spec: FeedbackSpec) -> str:
    """What a word is about. The latest word of a user on a subject counts.

    A thumb and a rating label the same picture; two pictures are one subject in either order.
    """
    match spec:
        case ChoiceSpec():
            return "choice:" + ":".join(sorted((str(spec.chosen), str(spec.rejected))))
        case CommentSpec():
            return f"comment:{spec.image_id}"
        case _:
            return f"label:{spec.image_id}"
