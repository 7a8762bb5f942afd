"""Pictures at work: at every tick one call of a network answers all that ask the same."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.domain.errors import JobStopped
from worker.engine.picture import Picture
from worker.engine.pipeline import free_memory, is_out_of_memory
from worker.engine.question import Question
from worker.engine.room import Room
from worker.engine.stopwatch import Stopwatch
from worker.engine.turn import PATIENCE, Turn, Waiting


class Answerer(Protocol):
    """Whose networks answer: a loaded model."""

    def answer(self, questions: Sequence[Question], wears: Sequence[Any]) -> list[Any]:
        """One call of the network that all questions ask; each question's part of what it says.

        `wears` is what the picture of each question wears.
        """

    def forget_adapters(self) -> None:
        """Keep nothing that was worked out for what was worn: memory ran out."""


@dataclass(eq=False)
class Seat:
    """A picture's place in the batch: whose it is, which model draws it, and who is told when it has ended.

    `wears` are its adapters. Pictures that are `apart` in different ways never share a call. About so many `calls` will
    it take.
    """

    picture: Picture
    tenant: str
    model: Answerer
    wears: Any
    should_stop: Callable[[], bool]
    on_end: Callable[[Picture], None]
    apart: Hashable = None
    calls: int = 0
    since: int = field(default=0, init=False)
    due: int = field(default=0, init=False)


class Batch:
    """All pictures in the making. For the engine's thread only.

    Args:
        room: How many rows a call may have.
        make_room: Lets go of what nobody uses, where not even one picture's call fits; whether there was anything.
    """

    def __init__(self, room: Room, *, make_room: Callable[[], bool] = lambda: False) -> None:
        self._room, self._make_room = room, make_room
        self._turn = Turn()
        self._stopwatch = Stopwatch(room.device)
        self._seats: list[Seat] = []
        self._ticks = 0

    def __len__(self) -> int:
        return len(self._seats)

    def join(self, seat: Seat) -> None:
        """Take part from the next tick on."""
        seat.since, seat.due = self._ticks, self._ticks + PATIENCE * seat.calls
        self._seats.append(seat)
        self._let_go()

    def tick(self) -> None:
        """Answer the questions of one shape; those who were asked to stop leave first."""
        self._ticks += 1
        for seat in self._seats:
            if seat.should_stop():
                seat.picture.fail(JobStopped())
        self._let_go()
        if not self._seats:
            return
        seats = {_waiting(seat): seat for seat in self._seats}
        chosen = self._turn.choose(list(seats), room=self._room.rows)
        for each, seat in seats.items():
            if each.shape == chosen[0].shape:
                seat.since = self._ticks
        with self._stopwatch.timing(lambda seconds: self._turn.charge(chosen, seconds=seconds)):
            self._answer([seats[each] for each in chosen], chosen[0].shape)
        self._let_go()

    def dismiss(self) -> None:
        """End all that is at work, and tell nobody.

        To be called where the batch is given up: a coroutine that is only forgotten ends whenever its memory is
        collected, and puts torch's modes back to what they were when it began.
        """
        for seat in self._seats:
            seat.picture.fail(JobStopped())
        self._seats.clear()

    def _answer(self, seats: Sequence[Seat], shape: Hashable) -> None:
        """Where they do not fit on the device, half of them now: the others wait. Any other error is that of one."""
        questions = [_question(seat) for seat in seats]
        rows = sum(question.rows for question in questions)
        model = seats[0].model
        try:
            with self._room.measuring(shape, rows):
                answers = model.answer(questions, [seat.wears for seat in seats])
        except Exception as error:  # noqa: BLE001  # whatever a network says belongs to who asked
            self._answer_less(seats, shape, rows, error)
            return
        for seat, answer in zip(seats, answers, strict=True):
            seat.picture.answer(answer)

    def _answer_less(self, seats: Sequence[Seat], shape: Hashable, rows: int, error: Exception) -> None:
        if not is_out_of_memory(error):
            if len(seats) == 1:
                seats[0].picture.fail(error)
            else:
                for seat in seats:
                    self._answer([seat], shape)
            return
        seats[0].model.forget_adapters()
        free_memory()
        if len(seats) > 1:
            self._room.shrink(shape, rows)
            self._answer(seats[: len(seats) // 2], shape)
        elif self._make_room():
            self._answer(seats, shape)
        else:
            seats[0].picture.fail(error)

    def _let_go(self) -> None:
        ended = [seat for seat in self._seats if seat.picture.question is None]
        self._seats = [seat for seat in self._seats if seat.picture.question is not None]
        for seat in ended:
            seat.on_end(seat.picture)


def _question(seat: Seat) -> Question:
    assert seat.picture.question is not None
    return seat.picture.question


def _waiting(seat: Seat) -> Waiting:
    question = _question(seat)
    shape = (id(seat.model), seat.apart, question.shape)
    is_last = question.network.endswith(".decode")
    return Waiting(seat, seat.tenant, shape, question.rows, seat.since, seat.due, is_last)
