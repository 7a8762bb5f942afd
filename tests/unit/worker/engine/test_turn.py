"""Whose turn it is, without a device: shapes and tenants are names."""

from collections import Counter
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.engine.turn import PATIENCE, Turn, Waiting


def waits(tenant: str, shape: str, rows: int = 1, *, since: int = 0, due: int = 0, is_last: bool = False) -> Waiting:
    return Waiting(object(), tenant, shape, rows, since, due, is_last)


def everyone(_: Hashable) -> int:
    return 1_000


class Line:
    """Pictures that ask again as soon as they are answered, until they are done; and how often each was."""

    def __init__(self, *, room: int = 1_000) -> None:
        self.turn, self.room, self.calls = Turn(), room, 0
        self.waiting: list[Waiting] = []
        self.left: dict[Waiting, int] = {}
        self.answered: Counter[Waiting] = Counter()
        self.done: list[Waiting] = []

    def join(self, tenant: str, shape: str, calls: int = 10_000) -> Waiting:
        each = waits(tenant, shape, since=self.calls, due=self.calls + PATIENCE * calls)
        self.waiting.append(each)
        self.left[each] = calls
        return each

    def run(self, calls: int, *, seconds: Mapping[str, float] = MappingProxyType({})) -> list[Waiting]:
        """Who was answered last. `seconds` is what a call of a shape takes, where that is not one."""
        for _ in range(calls):
            self.calls += 1
            chosen = self.turn.choose(self.waiting, room=lambda _: self.room)
            shape = str(chosen[0].shape)
            assert {each.shape for each in chosen} == {shape}
            self.turn.charge(chosen, seconds=seconds.get(shape, 1.0))
            for each in self.waiting:
                each.since = self.calls if each.shape == shape else each.since
            for each in chosen:
                self.answered[each] += 1
                self.left[each] -= 1
            self.done += [each for each in chosen if not self.left[each]]
            self.waiting = [each for each in self.waiting if self.left[each]]
        return chosen


def test_all_of_one_shape_are_answered_at_once() -> None:
    waiting = [waits("a", "small", 2), waits("b", "small", 1), waits("a", "large", 2)]
    chosen = Turn().choose(waiting, room=everyone)
    assert chosen == waiting[:2]


def test_no_more_rows_than_there_is_room_for_but_one_question_at_least() -> None:
    waiting = [waits("a", "small", 2) for _ in range(5)]
    assert len(Turn().choose(waiting, room=lambda _: 5)) == 2
    assert len(Turn().choose(waiting, room=lambda _: 1)) == 1


def test_shapes_of_one_tenant_take_turns() -> None:
    line = Line()
    for shape in ("small", "large", "wide"):
        line.join("a", shape)
    line.run(36, seconds={"large": 16.0, "wide": 4.0})
    assert set(line.answered.values()) == {12}


def test_a_shape_that_many_wait_for_does_not_keep_another_of_the_tenant_waiting() -> None:
    line = Line(room=2)
    for _ in range(6):
        line.join("a", "small")
    large = line.join("a", "large")
    line.run(40)
    assert line.answered[large] == 20


def test_of_like_pictures_who_came_first_ends_first() -> None:
    line = Line(room=2)
    pictures = [line.join("a", "small", calls=5) for _ in range(6)]
    line.run(15)
    assert line.done == pictures


def test_who_needs_few_calls_goes_before_who_needs_many_and_came_a_little_earlier() -> None:
    line = Line(room=2)
    for _ in range(2):
        line.join("a", "small", calls=50)
    line.run(20)
    quick = line.join("a", "small", calls=4)
    line.run(8)
    assert line.done == [quick]


def test_who_needs_many_calls_ends_though_ever_more_come_who_need_few() -> None:
    line = Line(room=1)
    long = line.join("a", "small", calls=50)
    for _ in range(PATIENCE * 50 + 60):
        line.join("a", "small", calls=1)
        line.run(1)
    assert long in line.done


def test_who_takes_part_changes_seldom() -> None:
    line = Line(room=2)
    for tenant in "abc":
        line.join(tenant, "small")
        line.join(tenant, "small")
    changes, before = 0, None
    for _ in range(48):
        now = line.run(1)
        changes, before = changes + (now != before), now
    assert changes <= 48 // 4 + 1
    assert min(line.answered.values()) >= 12


def test_two_tenants_get_the_same_time_of_the_device() -> None:
    line = Line()
    for number in range(9):
        line.join("many", f"shape {number}")
    one = line.join("one", "large")
    line.run(400, seconds={"large": 3.0})
    many = sum(line.answered[each] for each in line.waiting[:-1])
    assert abs(3.0 * line.answered[one] - many) <= 4 * 3.0


def test_where_there_is_room_for_few_every_tenant_gets_its_share() -> None:
    line = Line(room=2)
    for _ in range(9):
        line.join("many", "small")
    one = line.join("one", "small")
    line.run(100)
    assert line.answered[one] >= 46


def test_who_comes_late_neither_waits_nor_is_owed_anything() -> None:
    line = Line()
    line.join("early", "small")
    line.join("early", "large")
    line.run(50)
    late = line.join("late", "wide")
    line.run(20)
    assert 8 <= line.answered[late] <= 12


def test_what_only_has_to_be_decoded_goes_first() -> None:
    waiting = [waits("a", "small", 2), waits("b", "decode", since=9, is_last=True)]
    assert Turn().choose(waiting, room=everyone) == waiting[1:]


@example([("a", "x", 3), ("a", "y", 9), ("a", "z", 1), ("b", "x", 9), ("c", "y", 2)], 2)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 12)), min_size=1, max_size=12),
    st.integers(min_value=1, max_value=6),
)
@settings(max_examples=300)
def test_everybody_ends_and_no_call_is_for_nobody(pictures: list[tuple[str, str, int]], room: int) -> None:
    line = Line(room=room)
    for tenant, shape, calls in pictures:
        line.join(tenant, shape, calls)
    while line.waiting:
        line.run(1)
    assert len(line.done) == len(pictures)
    assert line.calls <= sum(calls for _, _, calls in pictures)
