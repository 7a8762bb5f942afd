from pathlib import Path

import numpy as np
import pytest
import torch

from core.domain.base_model import LoadOptions
from core.domain.generation import SchedulerName
from tests.tiny_pipeline import save_sd
from worker.engine.pipeline import Pipeline, load_pipeline
from worker.engine.scheduler import SchedulerMaker

RANDOM = {name for name in SchedulerName if "sde" in name or "ancestral" in name} | {
    SchedulerName.DDPM,
    SchedulerName.LCM,
}


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = save_sd(tmp_path_factory.mktemp("scheduler") / "sd", prediction_type=request.param)
    return load_pipeline(folder, LoadOptions(), device="cpu")


@pytest.fixture(scope="module")
def maker(pipeline: Pipeline) -> SchedulerMaker:
    return SchedulerMaker(pipeline.scheduler.config)


@pytest.fixture(scope="module")
def reference(pipeline: Pipeline, maker: SchedulerMaker) -> np.ndarray:
    return draw(pipeline, maker, SchedulerName.DDIM, steps=100)


def draw(
    pipeline: Pipeline, maker: SchedulerMaker, name: SchedulerName, *, steps: int, seed: int = 2**53 - 1
) -> np.ndarray:
    pipeline.scheduler = maker.make(name, steps=steps, seed=seed)
    pixels: np.ndarray = pipeline(
        "a star",
        num_inference_steps=steps,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(3),
        width=32,
        height=32,
        output_type="np",
    ).images[0]
    return pixels


@pytest.mark.parametrize("name", SchedulerName)
@pytest.mark.parametrize("steps", [1, 3])
def test_each_draws(pipeline: Pipeline, maker: SchedulerMaker, name: SchedulerName, steps: int) -> None:
    first = draw(pipeline, maker, name, steps=steps)
    assert np.isfinite(first).all()
    assert np.array_equal(draw(pipeline, maker, name, steps=steps), first)


@pytest.mark.parametrize("name", [name for name in SchedulerName if name not in RANDOM])
def test_all_that_draw_no_noise_solve_the_same_equation(
    pipeline: Pipeline, maker: SchedulerMaker, name: SchedulerName, reference: np.ndarray
) -> None:
    distance = np.sqrt(np.mean((draw(pipeline, maker, name, steps=30) - reference) ** 2))
    assert distance < 0.1 * reference.std()


@pytest.mark.parametrize("name", [SchedulerName.DPMPP_SDE, SchedulerName.DPMPP_SDE_KARRAS])
def test_the_solver_with_noise_of_its_own_follows_the_seed(
    pipeline: Pipeline, maker: SchedulerMaker, name: SchedulerName
) -> None:
    one, other = (draw(pipeline, maker, name, steps=3, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", SchedulerName)
def test_what_the_model_was_trained_with_is_kept(
    maker: SchedulerMaker, pipeline: Pipeline, name: SchedulerName
) -> None:
    scheduler = maker.make(name, steps=4, seed=0)
    assert scheduler.config.prediction_type == pipeline.scheduler.config.prediction_type
    assert scheduler is not maker.make(name, steps=4, seed=0)
    assert getattr(scheduler.config, "use_karras_sigmas", False) == name.endswith("karras")


def test_more_steps_than_lcm_was_distilled_with(pipeline: Pipeline, maker: SchedulerMaker) -> None:
    assert np.isfinite(draw(pipeline, maker, SchedulerName.LCM, steps=60)).all()


def test_a_zero_snr_schedule_stays_finite_for_every_solver(tmp_path: Path) -> None:
    pipeline = load_pipeline(save_sd(tmp_path / "sd"), LoadOptions(), device="cpu")
    maker = SchedulerMaker(pipeline.scheduler.config)
    for name in (SchedulerName.HEUN, SchedulerName.DPMPP_2M_KARRAS, SchedulerName.DEIS):
        scheduler = maker.make(name, steps=10, seed=0)
        scheduler.set_timesteps(10)
        assert float(scheduler.sigmas.max()) == pytest.approx(50, rel=1e-3)
