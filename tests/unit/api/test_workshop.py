"""Threads for files: few for all, fewer for one owner."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from api.workshop import Workshop
from core.domain.errors import TooMuchAtOnce, Unavailable

ANN, BOB, EVE = uuid4(), uuid4(), uuid4()


class Work:
    """Counts for whom it is done at once, and ends when it may."""

    def __init__(self) -> None:
        self.under_way: Counter[UUID] = Counter()
        self.most: Counter[UUID] = Counter()
        self.most_of_all = 0
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def of(self, owner: UUID) -> Callable[[], UUID]:
        def work() -> UUID:
            with self._lock:
                self.under_way[owner] += 1
                self.most[owner] = max(self.most[owner], self.under_way[owner])
                self.most_of_all = max(self.most_of_all, self.under_way.total())
            assert self.may_end.wait(timeout=30)
            with self._lock:
                self.under_way[owner] -= 1
            return owner

        return work

    async def is_under_way(self, *, times: int) -> None:
        while self.under_way.total() < times:
            await asyncio.sleep(0.001)


def test_all_is_done_and_never_too_much_at_once() -> None:
    owners, work = [ANN] * 20 + [BOB] * 20 + [EVE] * 20, Work()

    async def do_all() -> list[UUID]:
        workshop = Workshop(threads=5, of_one=2)
        done = asyncio.gather(*(workshop.do(owner, work.of(owner)) for owner in owners))
        await work.is_under_way(times=5)
        assert await asyncio.to_thread(lambda: "a thread of all") == "a thread of all"
        work.may_end.set()
        return await done

    assert asyncio.run(do_all()) == owners
    assert (work.most_of_all, max(work.most.values())) == (5, 2)


def test_who_waits_for_too_long_is_told_whose_files_are_in_the_way() -> None:
    work = Work()

    async def ask() -> None:
        workshop = Workshop(threads=3, of_one=2, patience_seconds=0.05)
        held = [asyncio.create_task(workshop.do(owner, work.of(owner))) for owner in (ANN, ANN, BOB)]
        await work.is_under_way(times=3)
        with pytest.raises(TooMuchAtOnce, match=r"Of files of one tenant at most 2 are .* in 0.05 seconds"):
            await workshop.do(ANN, work.of(ANN))
        with pytest.raises(Unavailable, match="Of files of all at most 3 are"):
            await workshop.do(EVE, work.of(EVE))
        work.may_end.set()
        await asyncio.gather(*held)
        assert await workshop.do(EVE, work.of(EVE)) == EVE

    asyncio.run(ask())


def test_what_fails_leaves_its_place() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def ask() -> None:
        workshop = Workshop(threads=1, of_one=1, patience_seconds=0.05)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workshop.do(ANN, fail)

    asyncio.run(ask())
