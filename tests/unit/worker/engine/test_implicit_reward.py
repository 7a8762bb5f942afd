import pytest
import torch

from tests.training_bench import CPU, make_learner, make_plan
from worker.engine.denoiser import Condition, denoise_error
from worker.engine.implicit_reward import FIXED_TIMESTEPS, implicit_rewards, mean_errors, seeded_noise
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


def test_the_reward_is_the_references_error_minus_the_policys(learner: Learner) -> None:
    latents, condition = pictures(3)
    found = implicit_rewards(
        learner.denoiser, latents, condition, switch=learner.switch, timesteps=(100, 700), seeds=(5, 5, 6)
    )
    assert not found.requires_grad
    for index, seed in enumerate((5, 5, 6)):
        errors = {True: 0.0, False: 0.0}
        for on in (False, True):
            learner.switch(on)
            for timestep in (100, 700):
                noise = seeded_noise((4, 16, 16), seed, timestep)[None]
                one = slice(index, index + 1)
                with torch.no_grad():
                    error = denoise_error(
                        learner.denoiser, latents[one], condition.rows(one), torch.tensor([timestep]), noise
                    )
                errors[on] += error.item() / 2
        assert found[index].item() == pytest.approx(errors[False] - errors[True], rel=1e-3, abs=1e-6)


def test_an_adapter_that_does_nothing_has_no_reward() -> None:
    learner = make_learner(make_plan())
    latents, condition = pictures(2)
    found = implicit_rewards(
        learner.denoiser, latents, condition, switch=learner.switch, timesteps=FIXED_TIMESTEPS, seeds=(1, 1)
    )
    assert torch.equal(found, torch.zeros(2))


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
