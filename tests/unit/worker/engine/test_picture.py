"""A picture pauses where it asks, and goes on with what it is told."""

from functools import partial
from typing import Any

import pytest
import torch

from core.domain.errors import JobStopped
from worker.engine.picture import Picture, Relay


class Doubler:
    """A network."""

    factor = 2

    def __call__(self, sample: torch.Tensor) -> torch.Tensor:
        return self.factor * sample

    def decode(self, sample: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        assert not return_dict
        return (sample + 1,)


def test_it_goes_from_question_to_question_and_ends_with_a_result() -> None:
    network = Relay(Doubler(), "unet")

    def paint() -> str:
        first = network(torch.ones(2))
        second = network(first)
        return f"{second.tolist()} by {network.factor}"

    picture = Picture(paint)
    for _ in range(2):
        assert picture.question is not None
        assert picture.question.network == "unet"
        picture.answer(Doubler()(*picture.question.arguments))
    assert (picture.question, picture.error, picture.result) == (None, None, "[4.0, 4.0] by 2")


def test_pictures_take_turns() -> None:
    network, said = Relay(Doubler(), "unet"), []

    def paint(name: str) -> Any:
        for _ in range(2):
            said.append(name)
            network(torch.ones(1))

    pictures = [Picture(partial(paint, name)) for name in "ab"]
    for _ in range(2):
        for picture in pictures:
            picture.answer(None)
    assert said == ["a", "b", "a", "b"]


def test_decoding_is_a_question_of_its_own_where_it_is_relayed() -> None:
    network = Relay(Doubler(), "vae", methods=("decode",))
    picture = Picture(lambda: network.decode(torch.ones(1), return_dict=False)[0].item())
    assert picture.question is not None
    assert (picture.question.network, picture.question.options) == ("vae.decode", {"return_dict": False})
    picture.answer((torch.full((1,), 3.0),))
    assert picture.result == 3.0


def test_an_error_of_its_own_ends_it() -> None:
    def paint() -> None:
        raise ValueError("no such scheduler")

    picture = Picture(paint)
    assert picture.question is None
    assert str(picture.error) == "no such scheduler"


def test_a_question_that_fails_raises_where_it_was_asked() -> None:
    network, cleaned = Relay(Doubler(), "unet"), []

    def paint() -> None:
        try:
            network(torch.ones(1))
        finally:
            cleaned.append(True)

    picture = Picture(paint)
    picture.fail(JobStopped())
    assert isinstance(picture.error, JobStopped)
    assert cleaned


def test_nobody_but_a_picture_asks() -> None:
    with pytest.raises(AssertionError, match="only a picture"):
        Relay(Doubler(), "unet")(torch.ones(1))
