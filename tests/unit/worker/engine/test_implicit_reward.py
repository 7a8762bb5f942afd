import pytest
import torch

from tests.training_bench import CPU, make_learner, make_plan
from worker.engine.denoiser import Condition, denoise_error
from worker.engine.implicit_reward import mean_errors, seeded_noise
from worker.training.learner import Learner


@pytest.fixture
def learner() -> Learner:
    """With an adapter that does something."""
    learner = make_learner(make_plan())
    generator = torch.Generator().manual_seed(1)
    for parameter in learner.parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    return learner


def pictures(count: int) -> tuple[torch.Tensor, Condition]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(count, 4, 16, 16, generator=generator),
        Condition(torch.randn(count, 24, 32, generator=generator)),
    )


def test_it_is_the_mean_of_the_denoising_errors(learner: Learner) -> None:
    latents, condition = pictures(3)
    found = mean_errors(learner.denoiser, latents, condition, timesteps=(100, 700), seeds=(5, 5, 6))
    assert not found.requires_grad
    for index, seed in enumerate((5, 5, 6)):
        one, error = slice(index, index + 1), 0.0
        for timestep in (100, 700):
            noise = seeded_noise((4, 16, 16), seed, timestep)[None]
            with torch.no_grad():
                each = denoise_error(
                    learner.denoiser, latents[one], condition.rows(one), torch.tensor([timestep]), noise
                )
            error += each.item() / 2
        assert found[index].item() == pytest.approx(error, rel=1e-3)


def test_a_picture_has_the_same_error_in_any_company(learner: Learner) -> None:
    latents, condition = pictures(5)
    whole = mean_errors(learner.denoiser, latents, condition, timesteps=(10, 990), seeds=range(5))
    parts = mean_errors(learner.denoiser, latents, condition, timesteps=(10, 990), seeds=range(5), batch_size=2)
    alone = mean_errors(learner.denoiser, latents[3:4], condition.rows(slice(3, 4)), timesteps=(10, 990), seeds=(3,))
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(whole[3:4], alone)


def test_noise_belongs_to_its_numbers() -> None:
    assert torch.equal(seeded_noise((4, 8, 8), 1, 2), seeded_noise((4, 8, 8), 1, 2))
    others = [(1, 3), (2, 2), (1 + 2**32, 2)]
    assert not any(torch.equal(seeded_noise((4, 8, 8), 1, 2), seeded_noise((4, 8, 8), *other)) for other in others)


def test_half_precision_is_looked_at_in_half_precision() -> None:
    learner = make_learner(make_plan(mixed_precision="bf16"))
    latents, condition = pictures(2)
    condition = Condition(condition.hidden_states.bfloat16())
    assert learner.denoiser.dtype is torch.bfloat16
    found = mean_errors(learner.denoiser, latents, condition, timesteps=(500,), seeds=(1, 2))
    assert found.dtype is torch.float32 and torch.isfinite(found).all()
    assert learner.device == CPU
