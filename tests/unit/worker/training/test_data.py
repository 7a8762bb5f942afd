from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_bench import make_examples, make_learner, make_plan
from worker.training.data import Example, PictureSource, with_trigger
from worker.training.loss import Batch


def make_source(folder: Path, **changes: Any) -> PictureSource:
    plan = make_plan(**changes)
    return PictureSource(make_examples(folder), make_learner(plan), plan)


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.latents, other.latents) and torch.equal(
        one.condition.hidden_states, other.condition.hidden_states
    )


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("a red star", None, "a red star"),
        ("a red star", "zorp", "zorp, a red star"),
        ("a ZORP on blue", "zorp", "a ZORP on blue"),
        ("he asks me", "sks", "sks, he asks me"),
        ("", "zorp", "zorp"),
    ],
)
def test_the_trigger_word_is_put_in_front_where_it_is_absent(caption: str, trigger: str | None, expected: str) -> None:
    assert with_trigger(caption, trigger) == expected


def test_every_picture_once_per_pass_in_an_order_that_changes(tmp_path: Path) -> None:
    source = make_source(tmp_path, batch_size=5)
    passes = [source.take().latents for _ in range(3)]
    sums = [sorted(latents.sum(dim=(1, 2, 3)).tolist()) for latents in passes]
    assert sums[0] == sums[1] == sums[2] and len(set(sums[0])) == 5
    assert not torch.equal(passes[0], passes[1])
    assert source.position == 15


@pytest.mark.parametrize(
    "changes",
    [{}, {"augment": {"flip": 0.5}}, {"augment": {"flip": 0.5, "crop": 0.5, "color": 0.5}, "caption_dropout": 0.5}],
)
def test_a_position_gives_the_same_batches_whatever_was_drawn_before(tmp_path: Path, changes: dict[str, Any]) -> None:
    straight, resumed = make_source(tmp_path, **changes), make_source(tmp_path, **changes)
    resumed.fill()
    batches = [straight.take() for _ in range(6)]
    resumed.position = 6
    assert all(same(resumed.take(), batch) for batch in batches[3:])


def test_captions_are_dropped_as_often_as_asked(tmp_path: Path) -> None:
    source = make_source(tmp_path, caption_dropout=1.0)
    empty = source._learner.encode_captions(["", ""]).hidden_states
    torch.testing.assert_close(source.take().condition.hidden_states, empty)


@pytest.mark.parametrize(
    ("augment", "kept"),
    [({}, 5), ({"flip": 0.5}, 10), ({"flip": 1.0}, 5), ({"flip": 0.5, "crop": 0.5}, 10), ({"crop": 1.0}, 0)],
)
def test_latents_are_kept_where_the_pixels_come_again(tmp_path: Path, augment: dict[str, float], kept: int) -> None:
    source = make_source(tmp_path, augment=augment)
    assert source.fill() == kept
    for _ in range(10):
        source.take()
    assert source.fill() == kept


def test_changed_pictures_are_new_each_time(tmp_path: Path) -> None:
    source = make_source(tmp_path, augment={"crop": 1.0}, batch_size=5)
    one, other = source.take().latents, source.take().latents
    assert not set(one.sum(dim=(1, 2, 3)).tolist()) & set(other.sum(dim=(1, 2, 3)).tolist())


def test_embeddings_are_made_anew_where_the_text_encoder_learns(tmp_path: Path) -> None:
    assert make_source(tmp_path, train_text_encoder=True).take().condition.hidden_states.requires_grad
    assert not make_source(tmp_path).take().condition.hidden_states.requires_grad


def test_sdxl_is_told_sizes_and_the_pooled_text(tmp_path: Path) -> None:
    plan = make_plan()
    source = PictureSource(make_examples(tmp_path), make_learner(plan, sdxl=True), plan)
    condition = source.take().condition
    assert condition.pooled is not None and condition.pooled.shape == (2, 32)
    assert condition.time_ids is not None and condition.time_ids.tolist() == [[32, 32, 0, 0, 32, 32]] * 2
    assert condition.hidden_states.shape == (2, 24, 64)


def test_one_picture_can_fill_a_batch(tmp_path: Path) -> None:
    plan = make_plan(batch_size=4)
    only: list[Example] = make_examples(tmp_path)[:1]
    assert len(PictureSource(only, make_learner(plan), plan).take().latents) == 4
