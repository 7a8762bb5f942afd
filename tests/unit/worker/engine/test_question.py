"""Questions of one shape become one call, and its answer is given back to each."""

from typing import Any

import torch

from worker.engine.question import WHOLE, Question, merge, split


def ask(rows: int = 2, *, size: int = 8, time: Any = 7, tokens: int = 5, **more: Any) -> Question:
    options = {"encoder_hidden_states": torch.randn(rows, tokens, 3), "added": more or None, "return_dict": False}
    return Question("unet", (torch.randn(rows, 4, size, size), torch.tensor(time)), options)


def test_a_guided_and_an_unguided_picture_share_a_call() -> None:
    questions = [ask(2, time=7), ask(1, time=3.5)]
    assert questions[0].shape == questions[1].shape
    (latents, times), options = merge(questions)
    assert latents.shape == (3, 4, 8, 8)
    assert times.tolist() == [7.0, 7.0, 3.5]
    assert torch.equal(options["encoder_hidden_states"][2:], questions[1].options["encoder_hidden_states"])
    assert options["return_dict"] is False
    first, second = split((latents,), questions)
    assert torch.equal(first[0], questions[0].arguments[0])
    assert torch.equal(second[0], questions[1].arguments[0])


def test_what_differs_in_size_length_or_kind_does_not_share_one() -> None:
    shapes = [
        ask(),
        ask(size=16),
        ask(tokens=10),
        ask(text_embeds=torch.randn(2, 3)),
        Question("vae.decode", ask().arguments),
    ]
    assert len({question.shape for question in shapes}) == len(shapes)


def test_alone_nothing_is_touched() -> None:
    question = ask()
    arguments, options = merge([question])
    assert all(found is given for found, given in zip(arguments, question.arguments, strict=True))
    assert options == question.options
    answer = (torch.zeros(2),)
    assert split(answer, [question])[0] is answer


def test_nested_inputs_are_joined_and_shared_ones_are_not() -> None:
    ids = torch.arange(6).reshape(2, 3)
    questions = [ask(1, time_ids=torch.full((1, 6), float(i)), img_ids=ids) for i in range(3)]
    _, options = merge(questions)
    assert options["added"]["time_ids"][:, 0].tolist() == [0.0, 1.0, 2.0]
    assert options["added"]["img_ids"] is ids


def test_a_tensor_as_answer_is_split_too() -> None:
    questions = [Question("vae.decode", (torch.randn(1, 4, 2, 2),)) for _ in range(3)]
    parts = split(torch.arange(3), questions)
    assert [int(part) for part in parts] == [0, 1, 2]


def test_pictures_that_are_wide_and_high_do_not_share_a_call() -> None:
    wide, high = torch.tensor([[0, 0], [0, 1]]), torch.tensor([[0, 0], [1, 0]])
    assert ask(img_ids=wide).shape == ask(img_ids=wide.clone()).shape
    assert ask(img_ids=wide).shape != ask(img_ids=high).shape
    assert ask(2, img_ids=wide).shape == ask(1, img_ids=wide).shape, "as many places as rows are no rows"


def test_a_picture_as_a_whole_shares_nothing() -> None:
    whole = Question(WHOLE, (lambda: None,))
    assert whole.shape == Question(WHOLE, (lambda: 1,)).shape
    assert whole.rows + whole.rows > 10**9
