"""Whose turn it is, without a device: shapes and tenants are names."""

from collections import Counter
from collections.abc import Hashable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.engine.turn import Turn, Waiting


def waits(tenant: str, shape: str, rows: int = 1, since: int = 0, *, is_last: bool = False) -> Waiting:
    return Waiting(object(), tenant, shape, rows, since, is_last)


def everyone(_: Hashable) -> int:
    return 1_000


class Line:
    """Pictures that ask again as soon as they are answered, and how often each was."""

    def __init__(self, *pictures: tuple[str, str, float], room: int = 1_000) -> None:
        self.turn, self.room, self.calls = Turn(), room, 0
        self.seconds = {shape: seconds for _, shape, seconds in pictures}
        self.waiting = [waits(tenant, shape) for tenant, shape, _ in pictures]
        self.answered: Counter[Waiting] = Counter()

    def run(self, calls: int) -> list[Waiting]:
        """Who was answered last."""
        for _ in range(calls):
            self.calls += 1
            chosen = self.turn.choose(self.waiting, room=lambda _: self.room)
            assert len({each.shape for each in chosen}) == 1
            self.turn.charge(chosen, seconds=self.seconds[str(chosen[0].shape)])
            for each in chosen:
                each.since = self.calls
                self.answered[each] += 1
        return chosen


def test_all_of_one_shape_are_answered_at_once() -> None:
    waiting = [waits("a", "small", 2, 0), waits("b", "small", 1, 0), waits("a", "large", 2, 0)]
    chosen = Turn().choose(waiting, room=everyone)
    assert chosen == waiting[:2]


def test_no_more_rows_than_there_is_room_for_but_one_question_at_least() -> None:
    waiting = [waits("a", "small", 2, 0) for _ in range(5)]
    assert len(Turn().choose(waiting, room=lambda _: 5)) == 2
    assert len(Turn().choose(waiting, room=lambda _: 1)) == 1


def test_shapes_of_one_tenant_take_turns() -> None:
    line = Line(("a", "small", 1.0), ("a", "large", 16.0), ("a", "wide", 4.0))
    line.run(36)
    assert set(line.answered.values()) == {12}


def test_who_takes_part_changes_seldom() -> None:
    line = Line(*[("a", "small", 1.0)] * 6, room=2)
    changes, before = 0, None
    for _ in range(48):
        now = line.run(1)
        changes, before = changes + (now != before), now
    assert changes <= 48 // 4 + 1
    assert min(line.answered.values()) >= 12


def test_two_tenants_get_the_same_time_of_the_device() -> None:
    line = Line(*[("many", f"shape {i}", 1.0) for i in range(9)], ("one", "large", 3.0))
    line.run(400)
    one = line.answered[line.waiting[-1]] * 3.0
    many = sum(line.answered[each] for each in line.waiting[:-1])
    assert abs(one - many) <= 4 * 3.0


def test_where_there_is_room_for_few_every_tenant_gets_its_share() -> None:
    line = Line(*[("many", "small", 1.0)] * 9, ("one", "small", 1.0), room=2)
    line.run(100)
    assert line.answered[line.waiting[-1]] >= 46


def test_who_comes_late_neither_waits_nor_is_owed_anything() -> None:
    line = Line(("early", "small", 1.0), ("early", "large", 1.0))
    line.run(50)
    late = waits("late", "wide", since=line.calls)
    line.waiting.append(late)
    line.seconds["wide"] = 1.0
    line.run(20)
    assert 8 <= line.answered[late] <= 12


def test_what_only_has_to_be_decoded_goes_first() -> None:
    waiting = [waits("a", "small", 2, 0), waits("b", "decode", 1, 9, is_last=True)]
    assert Turn().choose(waiting, room=everyone) == waiting[1:]


@example([("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("c", "y")], 2)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=12),
    st.integers(min_value=1, max_value=6),
)
@settings(max_examples=300)
def test_nobody_starves(pictures: list[tuple[str, str]], room: int) -> None:
    line = Line(*[(tenant, shape, 1.0) for tenant, shape in pictures], room=room)
    line.run(40 * len(pictures))
    assert all(line.answered[each] >= 3 for each in line.waiting)
