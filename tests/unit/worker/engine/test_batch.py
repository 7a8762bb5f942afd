"""Pictures join, share calls, leave, fail alone; what does not fit is done in parts."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from core.domain.errors import JobStopped
from worker.engine.batch import Batch, Seat
from worker.engine.picture import Picture, Relay
from worker.engine.question import Question, merge, split
from worker.engine.room import Room


class Network:
    """Adds the time to the latents, and notes how many rows each call had. It has memory for `fits` rows."""

    def __init__(self, *, fits: int = 1_000) -> None:
        self.relay = Relay(self, "unet")
        self.calls: list[int] = []
        self.forgot = 0
        self.fits = fits

    def __call__(self, latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(latents))
        if len(latents) > self.fits:
            raise MemoryError
        if (latents < 0).any():
            raise ValueError("negative latents")
        return latents + time.reshape(-1, 1)

    def forget_adapters(self) -> None:
        self.forgot += 1

    def answer(self, questions: Sequence[Question], wears: Sequence[Any]) -> list[Any]:
        arguments, options = merge(questions)
        return split(self(*arguments, **options), questions)


class Hall:
    """A batch of pictures of one network."""

    def __init__(
        self, *, most_rows: int = 100, fits: int = 1_000, make_room: Callable[[], bool] = lambda: False
    ) -> None:
        self.network = Network(fits=fits)
        self.batch = Batch(Room(most_rows=most_rows, device=torch.device("cpu")), make_room=make_room)
        self.ended: dict[str, Picture] = {}

    def join(
        self,
        name: str,
        *,
        steps: int,
        start: float = 0.0,
        size: int = 1,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        def paint() -> list[float]:
            latents = torch.full((2, size), start)
            for step in range(steps):
                latents = self.network.relay(latents, torch.tensor(step))
            found: list[float] = latents[0].tolist()
            return found

        def end(picture: Picture) -> None:
            self.ended[name] = picture

        self.batch.join(Seat(Picture(paint), name, self.network, wears=(), should_stop=should_stop, on_end=end))

    def run(self, ticks: int | None = None) -> None:
        while self.batch and (ticks is None or ticks > 0):
            self.batch.tick()
            ticks = None if ticks is None else ticks - 1


def test_they_join_at_the_next_step_and_leave_when_they_are_done() -> None:
    hall = Hall()
    hall.join("five", steps=5)
    hall.run(2)
    hall.join("eight", steps=8)
    hall.run(1)
    hall.join("six", steps=6)
    hall.run()
    assert hall.network.calls == [2, 2, 4, 6, 6, 4, 4, 4, 4, 2]
    assert {name: picture.result for name, picture in hall.ended.items()} == {
        "five": [10.0],
        "eight": [28.0],
        "six": [15.0],
    }


def test_other_shapes_take_turns() -> None:
    hall = Hall()
    hall.join("small", steps=3)
    hall.join("large", steps=3, size=4)
    hall.run()
    assert hall.network.calls == [2] * 6


def test_who_was_asked_to_stop_leaves_at_the_next_step() -> None:
    hall = Hall()
    stopped: list[bool] = []
    hall.join("stays", steps=4)
    hall.join("leaves", steps=4, should_stop=lambda: bool(stopped))
    hall.run(2)
    stopped.append(True)
    hall.run()
    assert hall.network.calls == [4, 4, 2, 2]
    assert isinstance(hall.ended["leaves"].error, JobStopped)
    assert hall.ended["stays"].result == [6.0]


def test_a_bound_on_rows_is_kept() -> None:
    hall = Hall(most_rows=5)
    for name in "abc":
        hall.join(name, steps=2)
    hall.run()
    assert max(hall.network.calls) == 4
    assert len(hall.ended) == 3


def test_what_does_not_fit_is_done_in_parts_and_not_tried_again() -> None:
    hall = Hall(fits=5)
    for name in "abcdef":
        hall.join(name, steps=2)
    hall.run()
    assert [calls for calls in hall.network.calls if calls > 5] == [12, 6]
    assert all(picture.result == [1.0] for picture in hall.ended.values())
    assert len(hall.ended) == 6
    assert hall.network.forgot == 2


def test_one_that_is_too_large_alone_fails_alone() -> None:
    hall = Hall(fits=1)
    hall.join("guided", steps=2)
    hall.run()
    assert isinstance(hall.ended["guided"].error, MemoryError)


def test_what_nobody_uses_goes_before_one_fails() -> None:
    def make_room() -> bool:
        hall.network.fits += 1
        return True

    hall = Hall(fits=1, make_room=make_room)
    hall.join("guided", steps=2)
    hall.run()
    assert hall.ended["guided"].result == [1.0]
    assert hall.network.calls == [2, 2, 2]


def test_one_that_the_network_refuses_harms_nobody() -> None:
    hall = Hall()
    hall.join("good", steps=2)
    hall.join("bad", steps=2, start=-1.0)
    hall.join("better", steps=2, start=1.0)
    hall.run()
    assert isinstance(hall.ended["bad"].error, ValueError)
    assert (hall.ended["good"].result, hall.ended["better"].result) == ([1.0], [2.0])


def test_a_batch_that_is_given_up_ends_its_pictures_there_and_then() -> None:
    hall = Hall()
    cleaned: list[bool] = []

    def paint() -> None:
        try:
            hall.network.relay(torch.zeros(1, 1), torch.tensor(0))
        finally:
            cleaned.append(True)

    seat = Seat(Picture(paint), "", hall.network, wears=(), should_stop=lambda: False, on_end=lambda _: None)
    hall.batch.join(seat)
    hall.batch.dismiss()
    assert cleaned
    assert not hall.batch


@pytest.mark.parametrize("size", [1, 3])
def test_a_real_network_says_the_same_to_many_as_to_one(size: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(size, size)
    questions = [Question("unet", (torch.randn(rows, size),)) for rows in (1, 2, 2, 1)]
    arguments, options = merge(questions)
    with torch.inference_mode():
        together = split(layer(*arguments, **options), questions)
        for question, part in zip(questions, together, strict=True):
            assert torch.allclose(part, layer(*question.arguments), atol=1e-6)
