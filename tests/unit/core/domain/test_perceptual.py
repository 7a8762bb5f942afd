"""The distance of perceptual hashes."""

import pytest

from core.domain.perceptual import distance

BLACK, WHITE = "0" * 192, "f" * 192


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (BLACK, BLACK, 0.0),
        (BLACK, WHITE, 1.0),
        (BLACK, "f" * 48 + "0" * 144, 0.5),  # a quarter of the digits: sqrt(1/4)
        (BLACK, "0" * 191, 1.0),
        ("", "", 1.0),
    ],
)
def test_distances(one: str, other: str, expected: float) -> None:
    assert distance(one, other) == distance(other, one) == pytest.approx(expected)
