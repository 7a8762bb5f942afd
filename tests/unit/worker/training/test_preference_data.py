from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.domain.errors import DatasetUnusable
from core.domain.model_update import Split
from core.domain.preference import PreferenceKind, PreferenceRow
from tests.training_bench import make_learner, make_opinions, make_preference_plan
from worker.engine.denoiser import denoise_error
from worker.training.opinion_shelf import OpinionShelf
from worker.training.preference_data import PreferenceBatch, PreferenceSource, by_content, class_factors, content_key


def make_source(
    folder: Path,
    rows: list[PreferenceRow] | None = None,
    *,
    kept_bytes: int = 2**30,
    sdxl: bool = False,
    **changes: Any,
) -> PreferenceSource:
    plan = make_preference_plan(steps=1000, **changes)
    manifest, pictures = make_opinions(folder)
    learner = make_learner(plan, sdxl=sdxl)
    rows = list(manifest.of(Split.TRAIN)) if rows is None else rows
    shelf = OpinionShelf(rows, pictures, learner, resolution=plan.resolution)
    return PreferenceSource(rows, shelf, learner, plan, kept_bytes=kept_bytes)


def train_rows(folder: Path) -> list[PreferenceRow]:
    return list(make_opinions(folder)[0].of(Split.TRAIN))


def same(one: PreferenceBatch, other: PreferenceBatch) -> bool:
    tensors = ("latents", "timesteps", "noise", "weights", "signs", "liked")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors) and (
        torch.equal(one.condition.hidden_states, other.condition.hidden_states)
        and torch.equal(one.reference.errors, other.reference.errors)
        and torch.equal(one.reference.predictions, other.reference.predictions)
    )


def test_both_pictures_of_a_pair_have_the_same_noise_and_prompt(tmp_path: Path) -> None:
    source = make_source(tmp_path, batch_size=7)
    batch = source.take()  # every row once: three pairs, two liked, two disliked
    assert batch.pairs == 3 and len(batch.latents) == 10
    for figures in (batch.timesteps, batch.noise, batch.condition.hidden_states):
        chosen, rejected, _ = batch.split(figures)
        assert torch.equal(chosen, rejected)
    chosen, rejected, _ = batch.split(batch.latents)
    assert not torch.equal(chosen, rejected)
    assert sorted(batch.signs.tolist()) == [-1, -1, 1, 1]
    assert batch.weights.mean().item() == pytest.approx(1.0)
    liked, not_chosen, single = batch.split(batch.liked)
    assert torch.equal(liked, batch.weights[:3]) and not not_chosen.any()
    assert torch.equal(single > 0, batch.signs > 0)


def test_the_reference_is_the_base_and_the_adapter_is_on_afterwards(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    learner = source._learner
    for parameter in learner.parameters().values():
        parameter.data += 0.1
    batch = source.take()
    with torch.no_grad():
        learned, base = errors(source, batch), batch.reference.errors
        learner.switch(False)
        without = errors(source, batch)
        learner.switch(True)
    assert torch.equal(base, without) and not torch.equal(base, learned)
    assert not batch.reference.predictions.requires_grad
    assert all(parameter.requires_grad for parameter in learner.parameters().values())


def errors(source: PreferenceSource, batch: PreferenceBatch) -> torch.Tensor:
    return denoise_error(source._learner.denoiser, batch.latents, batch.condition, batch.timesteps, batch.noise)


@pytest.mark.parametrize("kept_bytes", [2**30, 4 * 16 * 16 * 4 * 20, 0])
def test_a_position_gives_the_same_batch_whatever_was_drawn_or_kept_before(tmp_path: Path, kept_bytes: int) -> None:
    straight = make_source(tmp_path)
    batches = [straight.take() for _ in range(15)]  # seven rows, three draws: a cycle of six batches of four
    assert all(same(batches[index], batches[index + 6]) for index in range(9))
    assert not any(torch.equal(batches[0].noise, batch.noise) for batch in batches[1:6])
    resumed = make_source(tmp_path, kept_bytes=kept_bytes)
    resumed.position = 8 * 4
    assert all(same(resumed.take(), batch) for batch in batches[8:])


def test_the_base_is_asked_once_for_each_batch_that_comes_again(tmp_path: Path) -> None:
    for kept_bytes, expected in ((2**30, 6), (0, 12)):
        source = make_source(tmp_path / str(kept_bytes), kept_bytes=kept_bytes)
        calls: list[bool] = []
        source._learner.pipe.unet.register_forward_hook(lambda *_, calls=calls: calls.append(True))
        for _ in range(12):
            source.take()
        assert len(calls) == expected


def test_what_does_not_come_again_is_not_kept(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    source._plan = source._plan.model_copy(update={"spec": source._plan.spec.model_copy(update={"steps": 8})})
    for _ in range(8):
        source.take()
    assert sorted(source._kept) == [0, 1]


def test_every_row_is_used_once_per_pass_at_noise_levels_that_spread(tmp_path: Path) -> None:
    source = make_source(tmp_path, batch_size=7, noise_draws=8)
    batches = [source.take() for _ in range(8)]
    for batch in batches:
        assert sorted(batch.latents.sum(dim=(1, 2, 3)).tolist()) == sorted(
            batches[0].latents.sum(dim=(1, 2, 3)).tolist()
        )
    one = batches[0].latents[0]
    seen = [
        int(time)
        for batch in batches
        for latent, time in zip(batch.latents, batch.timesteps, strict=True)
        if torch.equal(latent, one)
    ]
    assert len({time // 250 for time in seen}) == 4


def test_order_and_ids_of_the_rows_do_not_matter_and_others_do_not_change_a_rows_noise(tmp_path: Path) -> None:
    rows = train_rows(tmp_path)
    renamed = [row.model_copy(update={"feedback_id": train_rows(tmp_path)[0].feedback_id}) for row in reversed(rows)]
    one, other = make_source(tmp_path, rows), make_source(tmp_path, renamed)
    assert all(same(one.take(), other.take()) for _ in range(4))

    def noise_of_a_pair(source: PreferenceSource) -> torch.Tensor:
        (use,) = [use for use in source._uses(0) if use.key == content_key(pair)]
        return source._noise(use, (4, 16, 16))

    pair = rows[0]
    without = [row for row in rows if row is not rows[-1]]
    assert torch.equal(
        noise_of_a_pair(make_source(tmp_path, rows, batch_size=7)),
        noise_of_a_pair(make_source(tmp_path, without, batch_size=6)),
    )


def test_prompts_to_preserve_come_along_in_turn_with_what_was_drawn_for_them(tmp_path: Path) -> None:
    prompts = ("", "a red star", "a blue ring")
    source = make_source(tmp_path)
    drawn = torch.randn(3, 4, 16, 16)
    for prompt, latents in zip(prompts, drawn.split(1), strict=True):
        source.preserve(prompt, latents)
    plain, batch, following = make_source(tmp_path).take(), source.take(), source.take()
    assert batch.preserved == 2 and plain.preserved == 0
    opinions, preserved = batch.part(batch.latents)
    assert torch.equal(opinions, plain.latents) and torch.equal(preserved, drawn[:2])
    assert torch.equal(batch.part(batch.noise)[0], plain.noise) and not batch.part(batch.liked)[1].any()
    torch.testing.assert_close(batch.part(batch.reference.errors)[0], plain.reference.errors)
    told = torch.cat([each.part(each.condition.hidden_states)[1] for each in (batch, following)])
    expected = source._shelf.condition([*prompts, prompts[0]]).hidden_states
    assert torch.equal(told, expected)
    times = torch.cat([each.part(each.timesteps)[1] for each in (batch, following)])
    assert len(times.unique()) == 4
    assert sum(len(part) for part in batch.split(batch.latents)) == len(opinions)


def test_rows_are_ordered_by_what_they_say(tmp_path: Path) -> None:
    rows = train_rows(tmp_path)
    assert by_content(rows) == by_content(rows[::-1])
    assert len({content_key(row) for row in rows}) == len(rows)


def single(kind: PreferenceKind, weight: float, rows: list[PreferenceRow]) -> PreferenceRow:
    return rows[0].model_copy(update={"kind": kind, "weight": weight, "rejected": None})


@pytest.mark.parametrize(
    ("liked", "disliked", "expected"),
    [
        ([1.0, 1.0], [1.0, 1.0], (1.0, 1.0)),
        ([1.0] * 5, [1.0] * 4, (1.0, 1.0)),  # within 1:1 and 4:3
        ([1.0] * 9, [1.0], (5.714285 / 9, 4.285714)),  # 4:3
        ([1.0], [3.0], (2.0, 2 / 3)),  # 1:1
        ([2.0], [], (1.0, 1.0)),
    ],
)
def test_likes_and_dislikes_are_brought_to_a_fair_share(
    tmp_path: Path, liked: list[float], disliked: list[float], expected: tuple[float, float]
) -> None:
    rows = train_rows(tmp_path)
    singles = [single(PreferenceKind.LIKED, weight, rows) for weight in liked]
    singles += [single(PreferenceKind.DISLIKED, weight, rows) for weight in disliked]
    factors = class_factors([rows[0], *singles])
    assert (factors[PreferenceKind.LIKED], factors[PreferenceKind.DISLIKED]) == pytest.approx(expected, rel=1e-5)
    assert factors[PreferenceKind.PAIR] == 1.0


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable, match="no row"):
        make_source(tmp_path, [])


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    rows = train_rows(tmp_path)
    learner = make_learner(make_preference_plan())
    with pytest.raises(DatasetUnusable, match=f"1 pictures .* gone, {rows[0].picture.sha256}"):
        pictures = {ref.sha256: tmp_path for row in rows for ref in (row.picture, row.rejected) if ref is not None}
        del pictures[rows[0].picture.sha256]
        OpinionShelf(rows, pictures, learner, resolution=32)


def test_sdxl_is_told_sizes_and_the_pooled_text(tmp_path: Path) -> None:
    batch = make_source(tmp_path, sdxl=True).take()
    count = len(batch.latents)
    assert batch.condition.pooled is not None and batch.condition.pooled.shape == (count, 32)
    assert batch.condition.time_ids is not None and len(batch.condition.time_ids) == count
    assert replace(batch).reference.errors.shape == (count,)
