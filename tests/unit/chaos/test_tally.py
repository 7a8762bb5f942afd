"""How far hostile requests got, from counts made by hand."""

import pytest

from chaos.tally import Operation, Tally, lacking

OPERATIONS: list[Operation] = [("GET", f"/{number}") for number in range(4)]
MANY = 500_000


def tally(*statuses: int, each: int = 1) -> Tally:
    """One status for each operation."""
    return Tally(dict.fromkeys(zip(OPERATIONS, statuses, strict=True), each))


def test_it_adds_up() -> None:
    sum_ = tally(200, 200, 404, 0) + tally(200, 422, 404, 503)
    assert (sum_.requests, sum_.own_errors) == (8, 2)
    assert sum_.statuses == {0: 1, 200: 3, 404: 2, 422: 1, 503: 1}
    assert sum_ - tally(200, 422, 404, 503) == tally(200, 200, 404, 0)


def test_all_that_was_asked_for_is_nothing_to_complain_of() -> None:
    assert list(lacking(tally(200, 201, 204, 303), OPERATIONS)) == []
    assert list(lacking(tally(200, 201, 204, 303, each=MANY), OPERATIONS)) == []


@pytest.mark.parametrize("status", [401, 405])
def test_who_is_always_turned_away_at_the_door_reached_nothing(status: int) -> None:
    complaint, *_ = lacking(tally(200, 200, 200, status), OPERATIONS)
    assert "GET /3" in complaint


def test_an_operation_that_nobody_asked_for() -> None:
    complaint, *_ = lacking(Tally({(each, 200): 1 for each in OPERATIONS[:3]}), OPERATIONS)
    assert "GET /3" in complaint


def test_nothing_but_wrong_ids_is_not_enough() -> None:
    [complaint] = lacking(tally(404, 404, 404, 404), OPERATIONS)
    assert all(path in complaint for _, path in OPERATIONS)


def test_a_short_run_may_miss_a_few_and_a_long_one_none() -> None:
    assert list(lacking(tally(200, 200, 200, 422), OPERATIONS)) == []
    assert len(list(lacking(tally(200, 200, 422, 422), OPERATIONS))) == 1
    [complaint] = lacking(tally(200, 200, 200, 422, each=MANY), OPERATIONS)
    assert complaint.endswith("GET /3.")


def test_it_says_how_far_it_got() -> None:
    assert list(tally(200, 201, 422, 204).lines(OPERATIONS)) == [
        "3 of 4 operations did what they were asked for",
        "- GET /2: 422",
    ]
