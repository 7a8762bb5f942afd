"""The manifest of a preference training: its digest is over what is said, not over who stored it where."""

from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from core.domain.model_update import Split
from core.domain.preference import PictureRef, PreferenceKind, PreferenceManifest, PreferenceRecipe, PreferenceRow


def picture(digit: str) -> PictureRef:
    return PictureRef(image_id=uuid4(), object_key=f"job/{uuid4()}/0.png", sha256=digit * 64)


def pair(**changes: Any) -> PreferenceRow:
    fields: dict[str, Any] = {
        "feedback_id": uuid4(),
        "kind": PreferenceKind.PAIR,
        "prompt": "a star",
        "picture": picture("1"),
        "rejected": picture("2"),
        "weight": 1.0,
        "split": Split.TRAIN,
    }
    return PreferenceRow(**(fields | changes))


def digest(*rows: PreferenceRow) -> str:
    return PreferenceManifest(rows=rows).digest


def test_the_same_opinions_have_the_same_digest_wherever_they_are_stored() -> None:
    assert digest(pair(), pair(prompt="a heart")) == digest(pair(), pair(prompt="a heart"))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a heart"},
        {"picture": picture("3")},
        {"rejected": picture("3")},
        {"weight": 0.5},
        {"split": Split.HELD_OUT},
        {"kind": PreferenceKind.LIKED, "rejected": None},
    ],
)
def test_whatever_a_row_says_changes_the_digest(change: dict[str, Any]) -> None:
    assert digest(pair()) != digest(pair(**change))


def test_the_order_of_rows_changes_the_digest() -> None:
    first, second = pair(), pair(prompt="a heart")
    assert digest(first, second) != digest(second, first)


def test_rows_are_told_by_split_in_order() -> None:
    rows = [pair(prompt=str(number), split=Split.HELD_OUT if number % 2 else Split.TRAIN) for number in range(5)]
    manifest = PreferenceManifest(rows=tuple(rows))
    assert [row.prompt for row in manifest.of(Split.TRAIN)] == ["0", "2", "4"]
    assert [row.prompt for row in manifest.of(Split.HELD_OUT)] == ["1", "3"]


def test_a_row_without_weight_is_none() -> None:
    with pytest.raises(ValidationError):
        pair(weight=0.0)


def test_the_recipe_is_one_of_a_training_and_refuses_what_it_does_not_know() -> None:
    assert PreferenceRecipe(steps=5).steps == 5
    with pytest.raises(ValidationError):
        PreferenceRecipe.model_validate({"step": 5})
