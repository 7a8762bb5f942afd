"""What a user says of an image: a thumb, a rating, a choice between two, a comment."""

from enum import StrEnum


class FeedbackKind(StrEnum):
    THUMB = "thumb"
    RATING = "rating"
    CHOICE = "choice"
    COMMENT = "comment"
