from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from tests.training_bench import CPU
from worker.engine.denoiser import Condition, Denoiser, denoise_error
from worker.training.loss import Batch, FineTuningLoss, min_snr_weight

ALL = torch.arange(1000)


class Oracle(torch.nn.Module):
    """Answers with what it was told to."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, noisy: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
        return (self.answer,)


def zero_snr(prediction_type: str) -> dict[str, Any]:
    scheduler = DDIMScheduler(
        prediction_type=prediction_type, rescale_betas_zero_snr=True, steps_offset=1, clip_sample=False
    )
    return dict(scheduler.config)


def make_denoiser(prediction_type: str, answer: torch.Tensor | None = None) -> Denoiser:
    config = zero_snr(prediction_type)
    return Denoiser(Oracle(answer if answer is not None else torch.zeros(1)), config, device=CPU)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_error_is_zero_for_the_target_of_the_family_and_per_sample(prediction_type: str) -> None:
    x, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor([0, 500, 999])
    bare = make_denoiser(prediction_type)
    expected = bare.target(x, noise, t)
    exact = make_denoiser(prediction_type, expected)
    condition = Condition(torch.zeros(3, 2, 4))
    assert torch.equal(denoise_error(exact, x, condition, t, noise), torch.zeros(3))
    off = make_denoiser(prediction_type, expected + torch.tensor([1.0, 2.0, 3.0])[:, None, None, None])
    torch.testing.assert_close(denoise_error(off, x, condition, t, noise), torch.tensor([1.0, 4.0, 9.0]))


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    config = zero_snr("v_prediction")
    theirs, ours = DDPMScheduler.from_config(config), Denoiser(Oracle(torch.zeros(1)), config, device=CPU)
    x, noise, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    torch.testing.assert_close(ours.add_noise(x, noise, t), theirs.add_noise(x, noise, t))
    torch.testing.assert_close(ours.target(x, noise, t), theirs.get_velocity(x, noise, t))
    assert ours.signal_to_noise(torch.tensor([999])).item() == 0  # zero terminal SNR


@pytest.mark.parametrize(
    ("prediction_type", "last", "formula"),
    [
        ("epsilon", 1.0, lambda snr: snr.clamp(max=5) / snr),
        ("v_prediction", 0.0, lambda snr: snr.clamp(max=5) / (snr + 1)),
        ("sample", 0.0, lambda snr: snr.clamp(max=5)),
    ],
)
def test_min_snr_weights_are_the_papers_and_finite_at_zero_snr(
    prediction_type: str, last: float, formula: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    denoiser = make_denoiser(prediction_type)
    weights = min_snr_weight(denoiser, ALL, gamma=5.0)
    snr = denoiser.signal_to_noise(ALL)
    torch.testing.assert_close(weights[:-1], formula(snr)[:-1])
    assert weights[-1].item() == last
    assert torch.isfinite(weights).all()


def test_fine_tuning_loss_repeats_with_its_generator_and_weighs() -> None:
    denoiser = make_denoiser("epsilon", torch.zeros(8, 4, 8, 8))
    batch = Batch(torch.randn(8, 4, 8, 8), Condition(torch.zeros(8, 2, 4)))

    def loss(gamma: float | None, seed: int) -> float:
        return FineTuningLoss(gamma)(denoiser, batch, torch.Generator().manual_seed(seed)).item()

    assert loss(None, 1) == loss(None, 1) != loss(None, 2)
    assert loss(0.01, 1) < loss(None, 1)
