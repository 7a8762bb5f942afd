from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from core.domain.policy import Standing, UpdatePolicy, decide, enough, shortfall

POLICY = UpdatePolicy()
READY: dict[str, Any] = {
    "new_labels": 500,
    "users": 10,
    "oldest_age_hours": 1.0,
    "hours_since_last_update": 24.0,
    "like_rate": 0.5,
    "thumbs": 200,
    "pairs": 20,
    "likes": 0,
    "in_flight_update_id": None,
    "in_flight_since": None,
}


def standing(**changes: Any) -> Standing:
    return Standing(**(READY | changes))


IN_FLIGHT = {"in_flight_update_id": UUID(int=1), "in_flight_since": datetime(2026, 5, 1, 12, 30, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"new_labels": 137, "oldest_age_hours": 80.0}, ["137 of 200 new labels"]),
        ({"users": 4}, ["4 of 10 users"]),
        ({"hours_since_last_update": 20.8}, ["3.2 h of cooldown left"]),
        (IN_FLIGHT, ["an update is in flight since 2026-05-01 12:30 UTC"]),
        ({"pairs": 19, "likes": 31}, ["19 of 20 pairs and 31 of 32 likes and dislikes"]),
        (
            {"new_labels": 499, "oldest_age_hours": 71.0},
            ["an occasion: 499 of 500 new labels, or 1.0 h until the oldest is 72.0 h old"],
        ),
        (
            {"new_labels": 499, "thumbs": 49, "like_rate": 0.0},
            ["an occasion: 499 of 500 new labels, or 71.0 h until the oldest is 72.0 h old"],
        ),
    ],
)
def test_what_is_missing_is_said_in_numbers(changes: dict[str, Any], missing: list[str]) -> None:
    decision = decide(POLICY, standing(**changes))
    assert (decision.due, list(decision.waiting_for), decision.because) == (False, missing, "")


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({}, "500 new labels of 10 users, 500 are many"),
        (
            {"new_labels": 200, "oldest_age_hours": 72.0, "hours_since_last_update": None},
            "the oldest new label is 72.0 h old, 72.0 h are too old",
        ),
        (
            {"new_labels": 200, "thumbs": 50, "like_rate": 0.29},
            "a like rate of 0.29 in 50 new thumbs, below 0.30",
        ),
        ({"pairs": 0, "likes": 32}, "500 new labels of 10 users, 500 are many"),
        ({"pairs": None, "likes": None}, "500 new labels of 10 users, 500 are many"),
    ],
)
def test_what_makes_an_update_due_is_said_in_numbers(changes: dict[str, Any], because: str) -> None:
    decision = decide(POLICY, standing(**changes))
    assert (decision.due, decision.because, decision.waiting_for) == (True, because, ())


def test_everything_that_is_missing_is_said_at_once() -> None:
    policy = UpdatePolicy(enabled=False)
    changes = {"new_labels": 1, "users": 1, "pairs": 1, "hours_since_last_update": 0.0, **IN_FLIGHT}
    assert len(decide(policy, standing(**changes)).waiting_for) == 7


def test_asked_by_hand_it_waits_only_for_the_one_in_flight_and_for_enough_to_train_on() -> None:
    policy = UpdatePolicy(enabled=False)
    few = standing(new_labels=0, users=0, oldest_age_hours=None, hours_since_last_update=0.0, like_rate=None)
    assert decide(policy, few, by_hand=True).because == "asked for by hand"
    busy = few.model_copy(update={**IN_FLIGHT, "pairs": 3})
    assert list(decide(policy, busy, by_hand=True).waiting_for) == [
        "an update is in flight since 2026-05-01 12:30 UTC",
        "3 of 20 pairs and 0 of 32 likes and dislikes",
    ]


def test_either_pairs_or_likes_are_enough() -> None:
    policy = UpdatePolicy(min_pairs=2, min_likes=3)
    assert [enough(policy, pairs=p, likes=n) for p, n in ((2, 0), (0, 3), (1, 2))] == [True, True, False]
    assert shortfall(policy, pairs=1, likes=2) == "1 of 2 pairs and 2 of 3 likes and dislikes"


def test_an_adapter_s_name_is_a_name() -> None:
    with pytest.raises(ValidationError, match="adapter_name"):
        UpdatePolicy(adapter_name="../etc")
