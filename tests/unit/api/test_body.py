"""Room for bodies and patience with them, without anybody who sends one."""

from uuid import uuid4

import pytest

from api.body import Patience, Room
from core.domain.errors import TooMuchAtOnce, Unavailable

ANN, BOB, EVE = uuid4(), uuid4(), uuid4()


def test_one_tenant_has_a_part_of_the_room() -> None:
    room = Room(10, of_one=5)
    room.take(ANN, 5)
    with pytest.raises(TooMuchAtOnce, match="of one tenant at most 5 bytes"):
        room.take(ANN, 1)
    room.take(ANN, 0)
    room.take(BOB, 4)
    with pytest.raises(Unavailable, match="of all at most 10 bytes"):
        room.take(EVE, 2)
    room.take(EVE, 1)
    room.give_back(ANN, 5)
    room.take(ANN, 5)


def test_those_without_a_key_share_a_part() -> None:
    room = Room(10, of_one=5)
    room.take(None, 5)
    with pytest.raises(Unavailable, match="without a key at most 5 bytes"):
        room.take(None, 1)
    room.take(ANN, 5)


def test_what_comes_fast_enough_may_last_for_ever() -> None:
    patience = Patience(seconds=30, min_bytes=100)
    for _ in range(100):
        patience.note(waited=29, received=100)
        assert patience.left_seconds == 30


def test_what_came_at_once_buys_no_time_for_the_rest() -> None:
    patience = Patience(seconds=30, min_bytes=100)
    patience.note(waited=1, received=10**9)
    for _ in range(3):
        patience.note(waited=9, received=1)
    assert patience.left_seconds == 3
