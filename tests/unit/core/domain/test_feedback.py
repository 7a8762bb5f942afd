"""What may be said of an image, and what it is about."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from core.domain.feedback import FeedbackSpec, images_of, subject_of

A, B = UUID(int=1), UUID(int=2)
SPEC: TypeAdapter[FeedbackSpec] = TypeAdapter(FeedbackSpec)


def read(**fields: Any) -> FeedbackSpec:
    return SPEC.validate_python(fields)


def test_a_thumb_and_a_rating_of_one_image_are_one_subject() -> None:
    thumb = read(kind="thumb", image_id=str(A), liked=True)
    assert subject_of(thumb) == subject_of(read(kind="rating", image_id=str(A), rating=3)) == f"label:{A}"
    assert images_of(thumb) == {"image_id": A}


def test_a_choice_is_one_subject_in_either_order() -> None:
    one = read(kind="choice", chosen=str(A), rejected=str(B))
    other = read(kind="choice", chosen=str(B), rejected=str(A))
    assert subject_of(one) == subject_of(other) == f"choice:{A}:{B}"
    assert images_of(other) == {"chosen": B, "rejected": A}


def test_a_comment_leaves_the_label_alone() -> None:
    assert subject_of(read(kind="comment", image_id=str(A), comment="nice")) == f"comment:{A}"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "thumb", "image_id": str(A)},
        {"kind": "thumb", "image_id": str(A), "liked": 1},
        {"kind": "thumb", "image_id": str(A), "liked": True, "rating": 3},
        {"kind": "thumb", "image_id": "x", "liked": True},
        {"kind": "rating", "image_id": str(A), "rating": 0},
        {"kind": "rating", "image_id": str(A), "rating": 6},
        {"kind": "rating", "image_id": str(A), "rating": 3.5},
        {"kind": "rating", "image_id": str(A), "rating": True},
        {"kind": "choice", "chosen": str(A)},
        {"kind": "comment", "image_id": str(A)},
        {"kind": "comment", "image_id": str(A), "comment": ""},
        {"kind": "comment", "image_id": str(A), "comment": "x" * 2001},
        {"kind": "thumb", "image_id": str(A), "liked": True, "tags": ["x"] * 21},
        {"kind": "thumb", "image_id": str(A), "liked": True, "tags": ["x" * 51]},
        {"kind": "thumb", "image_id": str(A), "liked": True, "tags": [""]},
        {"kind": "thumb", "image_id": str(A), "liked": True, "user_ref": ""},
        {"kind": "thumb", "image_id": str(A), "liked": True, "user_ref": "x" * 201},
        {"kind": "thumb", "image_id": str(A), "liked": True, "user_ref": "a\x00b"},
        {"kind": "thumbs", "image_id": str(A), "liked": True},
        {"image_id": str(A), "liked": True},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(**fields)
