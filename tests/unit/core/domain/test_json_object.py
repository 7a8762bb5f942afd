"""Names of an object."""

import pytest

from core.domain.json_object import OccursTwice, unique


def test_a_name_that_occurs_twice_is_found_in_one_walk() -> None:
    compared = []

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            compared.append(self)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(number) for number in range(1000)] + [Name(998), Name(999)]
    with pytest.raises(OccursTwice, match="998 occurs twice"):
        unique([(name, None) for name in names])
    assert len(compared) < 10 * len(names)
