import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.domain.errors import JobFailure
from core.domain.preference import PreferenceRecipe
from tests.training_bench import CPU, make_preference_plan
from tests.unit.worker.training.test_loss import make_denoiser
from worker.engine.denoiser import Condition, Denoiser
from worker.training.preference_data import PreferenceBatch, Reference
from worker.training.preference_loss import PreferenceLoss, choose_beta, dpo_loss, kto_loss, zero_point

PAIRS, SINGLES = 2, 3
PICTURES = 2 * PAIRS + SINGLES
SIGNS = [1.0, -1.0, 1.0]
WEIGHTS = [0.5, 1.0, 2.0, 0.5, 1.0]
LIKED = [0.5, 1.0, 0.0, 0.0, 2.0, 0.0, 1.0]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("chosen", "rejected", "beta", "flip_rate", "expected"),
    [
        (0.0, 0.0, 300.0, 0.0, math.log(2)),
        (0.0, 0.0, 300.0, 0.3, math.log(2)),
        (0.02, 0.0, 100.0, 0.0, math.log(1 + math.exp(-1.0))),
        (0.0, 0.02, 100.0, 0.0, math.log(1 + math.exp(1.0))),
        (0.02, 0.0, 100.0, 0.25, 0.75 * math.log(1 + math.exp(-1.0)) + 0.25 * math.log(1 + math.exp(1.0))),
        (5.0, 0.0, 1000.0, 0.0, 0.0),
    ],
)
def test_dpo_by_hand(chosen: float, rejected: float, beta: float, flip_rate: float, expected: float) -> None:
    found = dpo_loss(torch.tensor([chosen]), torch.tensor([rejected]), beta=beta, flip_rate=flip_rate)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_believing_in_mistakes_bounds_the_margin() -> None:
    margin = torch.linspace(0.0, 1.0, 1001)
    best = {rate: margin[dpo_loss(margin, 0 * margin, beta=20.0, flip_rate=rate).argmin()].item() for rate in (0, 0.2)}
    assert best[0] == 1.0 and best[0.2] == pytest.approx(math.log(4) / 10, abs=1e-3)  # logit(0.8) / (beta / 2)


@pytest.mark.parametrize(
    ("reward", "sign", "expected"), [(0.01, 1.0, 0.5), (0.03, 1.0, 1 - sigmoid(2.0)), (0.03, -1.0, sigmoid(2.0))]
)
def test_kto_by_hand(reward: float, sign: float, expected: float) -> None:
    found = kto_loss(torch.tensor([reward]), torch.tensor([sign]), zero=torch.tensor(0.01), beta=100.0)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_zero_point_is_the_mean_but_not_below_zero_and_has_no_gradient() -> None:
    rewards = torch.tensor([0.5, -0.1], requires_grad=True)
    assert zero_point(rewards).item() == pytest.approx(0.2) and not zero_point(rewards).requires_grad
    assert zero_point(-rewards).item() == 0.0


def test_beta_gives_a_typical_margin_the_gradient_factor_aimed_at_and_is_clamped() -> None:
    beta = choose_beta(torch.tensor(0.004), target_gradient=0.2)
    assert sigmoid(-0.5 * beta.item() * 0.004) == pytest.approx(0.2, abs=1e-4)
    assert choose_beta(torch.tensor(0.0), target_gradient=0.2).item() == 10_000
    assert choose_beta(torch.tensor(5.0), target_gradient=0.2).item() == 10


def make_batch(**changes: Any) -> PreferenceBatch:
    """Two pairs, a liked, a disliked and another liked picture, on any numbers."""
    generator = torch.Generator().manual_seed(3)
    latents, noise, predictions = torch.randn(3, PICTURES, 4, 8, 8, generator=generator).unbind()
    timesteps = torch.tensor([100, 900, 100, 900, 5, 500, 999])
    denoiser = make_denoiser("v_prediction")
    errors = (predictions - denoiser.target(latents, noise, timesteps)).square().mean(dim=(1, 2, 3))
    batch = PreferenceBatch(
        latents=latents,
        condition=Condition(torch.zeros(PICTURES, 2, 4)),
        timesteps=timesteps,
        noise=noise,
        reference=Reference(errors, predictions),
        pairs=PAIRS,
        weights=torch.tensor(WEIGHTS),
        signs=torch.tensor(SIGNS),
        liked=torch.tensor(LIKED),
    )
    return replace(batch, **changes)


def moved(batch: PreferenceBatch, scale: float = 0.01) -> torch.Tensor:
    """What a policy says that has left the reference a little."""
    generator = torch.Generator().manual_seed(4)
    return batch.reference.predictions + scale * torch.randn(batch.latents.shape, generator=generator)


def make_loss(**changes: Any) -> PreferenceLoss:
    recipe: PreferenceRecipe = make_preference_plan(**changes).spec
    return PreferenceLoss(recipe, device=CPU)


def ask(loss: PreferenceLoss, batch: PreferenceBatch, answer: torch.Tensor | None = None) -> torch.Tensor:
    denoiser: Denoiser = make_denoiser("v_prediction", batch.reference.predictions if answer is None else answer)
    return loss(denoiser, batch, torch.Generator())


def test_the_first_loss_of_a_pair_is_ln_2_and_of_a_single_picture_one_half() -> None:
    batch = make_batch()
    first = ask(make_loss(sft_weight=0.0, anchor_weight=1.0), batch).item()
    expected = (math.log(2) * sum(WEIGHTS[:2]) + 0.5 * sum(WEIGHTS[2:])) / 5
    assert first == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("flip_rate", [0.0, 0.1])
def test_all_terms_against_a_reference_in_plain_python(flip_rate: float) -> None:
    batch = make_batch()
    loss = make_loss(beta=50.0, sft_weight=0.3, anchor_weight=0.7, flip_rate=flip_rate)
    ask(loss, batch)
    answer = moved(batch, 0.05)
    denoiser = make_denoiser("v_prediction")
    target = denoiser.target(batch.latents, batch.noise, batch.timesteps)
    error, before, distance = [], [], []
    for index in range(PICTURES):
        said, wanted = answer[index].flatten().tolist(), target[index].flatten().tolist()
        base = batch.reference.predictions[index].flatten().tolist()
        error.append(sum((s - w) ** 2 for s, w in zip(said, wanted, strict=True)) / len(said))
        before.append(sum((b - w) ** 2 for b, w in zip(base, wanted, strict=True)) / len(said))
        distance.append(sum((s - b) ** 2 for s, b in zip(said, base, strict=True)) / len(said))
    reward = [b - e for b, e in zip(before, error, strict=True)]
    zero = max(sum(reward) / PICTURES, 0.0)
    each = []
    for pair in range(PAIRS):
        x = 25.0 * (reward[pair] - reward[PAIRS + pair])
        each.append(-(1 - flip_rate) * math.log(sigmoid(x)) - flip_rate * math.log(sigmoid(-x)))
    for single, sign in enumerate(SIGNS):
        each.append(1 - sigmoid(50.0 * sign * (reward[2 * PAIRS + single] - zero)))
    expected = sum(w * e for w, e in zip(WEIGHTS, each, strict=True)) / 5
    expected += 0.3 * sum(w * e for w, e in zip(LIKED, error, strict=True)) / 5
    expected += 0.7 * sum(distance) / PICTURES
    assert ask(loss, batch, answer).item() == pytest.approx(expected, rel=1e-4)


def test_what_is_preserved_is_held_where_it_was_and_is_no_opinion() -> None:
    """The last of the single pictures is none, but one to preserve."""
    batch = make_batch(preserved=1, signs=torch.tensor(SIGNS[:2]), weights=torch.tensor(WEIGHTS[:4]))
    batch = replace(batch, liked=torch.tensor([*LIKED[:6], 0.0]))
    loss = make_loss(sft_weight=0.0, anchor_weight=0.0, preserve_weight=2.0)
    first = ask(loss, batch).item()
    assert first == pytest.approx((math.log(2) * sum(WEIGHTS[:2]) + 0.5 * sum(WEIGHTS[2:4])) / 4, abs=1e-6)
    answer = batch.reference.predictions.clone()
    answer[-1] += 0.3
    assert ask(loss, batch, answer).item() == pytest.approx(first + 2.0 * 0.09, abs=1e-5)


def test_going_down_raises_the_chosen_and_liked_above_the_others() -> None:
    batch = make_batch()
    answer = batch.reference.predictions.clone().requires_grad_()
    ask(make_loss(sft_weight=0.0, anchor_weight=0.0), batch, answer).backward()
    assert answer.grad is not None
    after = answer.detach() - 0.5 * answer.grad
    target = make_denoiser("v_prediction").target(batch.latents, batch.noise, batch.timesteps)
    rewards = batch.reference.errors - (after - target).square().mean(dim=(1, 2, 3))
    assert (rewards.sign() == torch.tensor([1, 1, -1, -1, 1, -1, 1])).all()


def test_a_policy_that_differs_before_the_first_step_is_an_error_and_later_it_is_not() -> None:
    batch, loss = make_batch(), make_loss()
    with pytest.raises(JobFailure, match="not fresh, or it was not off"):
        ask(loss, batch, moved(batch))
    ask(loss, batch)
    assert math.isfinite(ask(loss, batch, moved(batch)).item())


def test_the_running_means_say_how_much_is_left_to_learn() -> None:
    batch, loss = make_batch(signs=torch.tensor([]), weights=torch.ones(2)), make_loss(beta=None)
    batch = replace(batch, latents=batch.latents[:4], noise=batch.noise[:4], timesteps=batch.timesteps[:4])
    batch = replace(batch, liked=torch.tensor([1.0, 1.0, 0.0, 0.0]))
    batch = replace(batch, reference=Reference(batch.reference.errors[:4], batch.reference.predictions[:4]))
    assert loss.beta.item() == 10_000
    ask(loss, batch)
    assert loss.gradient_factor == pytest.approx(0.5) and loss.liked_error_ratio == pytest.approx(1.0)
    target = make_denoiser("v_prediction").target(batch.latents, batch.noise, batch.timesteps)
    towards = torch.tensor([0.01, 0.01, -0.01, -0.01])[:, None, None, None]
    for _ in range(60):
        ask(loss, batch, batch.reference.predictions + towards * (target - batch.reference.predictions))
    assert loss.gradient_factor == pytest.approx(0.2, abs=0.05)  # beta follows the margins
    assert loss.liked_error_ratio == pytest.approx(0.98, abs=1e-3)
    twin = make_loss(beta=None)
    twin.restore(loss.snapshot())
    assert twin.beta.item() == loss.beta.item() and twin.gradient_factor == loss.gradient_factor
