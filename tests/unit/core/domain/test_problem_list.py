"""Gathering problems."""

import pytest

from core.domain.errors import InvalidInput
from core.domain.problem_list import ProblemList


def test_every_problem_is_in_the_one_answer() -> None:
    problems = ProblemList()
    problems.raise_any()
    problems.add("a", "is wrong")
    with problems.gather():
        raise InvalidInput.of("b", "is wrong, too")
    with problems.gather(field="c.0"):
        raise InvalidInput.of("image", "is broken")
    with pytest.raises(InvalidInput) as raised:
        problems.raise_any()
    assert [(each.field, each.message) for each in raised.value.problems] == [
        ("a", "is wrong"),
        ("b", "is wrong, too"),
        ("c.0", "is broken"),
    ]


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), ProblemList().gather():
        raise ZeroDivisionError
