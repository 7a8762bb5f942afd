"""Looked up once for all who ask."""

import asyncio
import threading
from math import inf

import pytest

from api.glance import Glance


class Sight:
    """Counts how often it was looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.may_end = threading.Event()

    def look(self) -> int:
        self.looks += 1
        assert self.may_end.wait(timeout=30)
        if self.looks == 1:
            raise ZeroDivisionError
        return self.looks


def test_all_who_ask_at_once_wait_for_one_look() -> None:
    sight = Sight()

    async def ask() -> list[int | BaseException]:
        glance = Glance(sight.look, seconds=inf)
        asked = asyncio.gather(*(glance.take() for _ in range(20)), return_exceptions=True)
        await asyncio.sleep(0)
        sight.may_end.set()
        return [*await asked, await glance.take()]

    failed, *seen = asyncio.run(ask())
    assert isinstance(failed, ZeroDivisionError), "what nobody foresaw is for who met it, and is not remembered"
    assert seen == [2] * 20
    assert sight.looks == 2


@pytest.mark.parametrize(("seconds", "looks"), [(inf, 1), (0.0, 3)])
def test_what_was_seen_is_good_for_a_while(seconds: float, looks: int) -> None:
    seen: list[None] = []

    async def ask() -> None:
        glance = Glance(lambda: seen.append(None), seconds=seconds)
        for _ in range(3):
            await glance.take()

    asyncio.run(ask())
    assert len(seen) == looks
