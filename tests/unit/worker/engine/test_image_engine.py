import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.domain.base_model import ModelFamily, ModelHandle
from core.domain.errors import InvalidInput, JobInterrupted, JobStopped, ModelUnusable, OutOfMemory
from core.domain.generation import GenerationPlan, SchedulerName
from tests.tiny_pipeline import save_sd
from tests.unit.worker.engine.conftest import handle_of
from worker.engine.image_engine import ImageEngine
from worker.engine.pipeline import Pipeline

MakePlan = Callable[..., GenerationPlan]
Progress = list[tuple[int, int]]


def draw(engine: ImageEngine, model: ModelHandle, plan: GenerationPlan, **options: Any) -> list[bytes]:
    options = {"on_step": lambda _step, _steps: None, "should_stop": lambda: False} | options
    return [image.tobytes() for image in engine.generate(model, plan, **options)]


def assert_near(got: list[bytes], expected: list[bytes]) -> None:
    """The same but for the rounding of sums, which depends on how many are summed beside them."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        levels = np.frombuffer(one, np.uint8).astype(int) - np.frombuffer(other, np.uint8)
        assert np.abs(levels).max() <= 1
        assert np.abs(levels).mean() < 0.01


def picture() -> Image.Image:
    return Image.radial_gradient("L").convert("RGB").resize((48, 40))


def test_it_draws_what_diffusers_draws(
    engine: ImageEngine, sd_model: ModelHandle, sd: Pipeline, make_plan: MakePlan
) -> None:
    plan = make_plan()
    expected = sd(
        plan.prompt,
        negative_prompt=plan.negative_prompt,
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance_scale,
        generator=torch.Generator().manual_seed(plan.seed),
    ).images[0]
    assert draw(engine, sd_model, plan) == [expected.tobytes()]


@pytest.mark.parametrize("name", [SchedulerName.DDIM, SchedulerName.EULER_ANCESTRAL, SchedulerName.DPMPP_SDE])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_same_plan_is_the_same_image(
    request: pytest.FixtureRequest, engine: ImageEngine, make_plan: MakePlan, name: SchedulerName, family: str
) -> None:
    model = request.getfixturevalue(f"{family}_model")
    plan = make_plan(scheduler=name)
    first = draw(engine, model, plan)
    draw(engine, model, make_plan(prompt="something else", seed=1, guidance_scale=1.0))
    assert draw(engine, model, plan) == first
    assert draw(engine, model, make_plan(scheduler=name, seed=8)) != first


def test_an_image_alone_is_the_same_as_beside_others(
    engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan
) -> None:
    together = draw(engine, sd_model, make_plan(num_images=3, scheduler=SchedulerName.EULER_ANCESTRAL))
    alone = [
        draw(engine, sd_model, make_plan(seed=7 + index, scheduler=SchedulerName.EULER_ANCESTRAL))[0]
        for index in range(3)
    ]
    assert_near(together, alone)
    assert len(set(alone)) == 3


def test_many_threads_at_once_get_each_their_own(
    engine: ImageEngine, sd_model: ModelHandle, sdxl_model: ModelHandle, make_plan: MakePlan
) -> None:
    asks = [(model, make_plan(seed=seed)) for seed in range(4) for model in (sd_model, sdxl_model)]
    expected = [draw(engine, model, plan) for model, plan in asks]
    with ThreadPoolExecutor(len(asks)) as pool:
        got = list(pool.map(lambda ask: draw(engine, *ask), asks))
    for images, alone in zip(got, expected, strict=True):
        assert_near(images, alone)


@pytest.mark.parametrize("scheduler", [SchedulerName.DDIM, SchedulerName.HEUN, SchedulerName.PNDM])
@pytest.mark.parametrize(("strength", "expected_steps"), [(None, 4), (0.5, 2), (1.0, 4), (0.01, 1)])
def test_progress_counts_the_steps_of_all_images(
    engine: ImageEngine,
    sd_model: ModelHandle,
    make_plan: MakePlan,
    scheduler: SchedulerName,
    strength: float | None,
    expected_steps: int,
) -> None:
    plan = make_plan(steps=4, num_images=2, strength=strength, scheduler=scheduler)
    seen: Progress = []
    init_image = None if strength is None else picture()
    draw(engine, sd_model, plan, init_image=init_image, on_step=lambda *step: seen.append(step))
    assert plan.denoising_steps == expected_steps
    assert sorted({step for step, _ in seen}) == list(range(1, 2 * expected_steps + 1))
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)
    assert {steps for _, steps in seen} == {2 * expected_steps}


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_image_to_image_departs_further_the_greater_its_strength(
    request: pytest.FixtureRequest, engine: ImageEngine, make_plan: MakePlan, family: str
) -> None:
    model = request.getfixturevalue(f"{family}_model")

    def spread(strength: float) -> float:
        """How far two seeds lead apart."""
        plans = [make_plan(steps=10, strength=strength, seed=seed) for seed in (1, 2)]
        one, other = (np.frombuffer(draw(engine, model, plan, init_image=picture())[0], np.uint8) for plan in plans)
        return float(np.abs(one.astype(float) - other).mean())

    assert spread(0.1) < spread(0.5) < spread(1.0)
    plan = make_plan(steps=10, strength=0.5)
    assert draw(engine, model, plan, init_image=picture()) == draw(engine, model, plan, init_image=picture())


def test_the_size_asked_for_is_the_size_drawn(engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan) -> None:
    plan = make_plan(width=48, height=64)
    images = engine.generate(sd_model, plan, on_step=lambda _step, _steps: None, should_stop=lambda: False)
    assert [image.size for image in images] == [(48, 64)]


def test_it_stops_at_the_step_where_it_was_asked_to(
    engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan
) -> None:
    plan = make_plan(steps=10, num_images=2)
    expected = draw(engine, sd_model, plan)
    seen: Progress = []
    with pytest.raises(JobStopped):
        draw(engine, sd_model, plan, on_step=lambda *step: seen.append(step), should_stop=lambda: len(seen) >= 13)
    assert len(seen) == 14, "both images had taken part in the step"
    assert draw(engine, sd_model, plan) == expected


def test_one_that_waits_in_line_stops_at_once(engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan) -> None:
    busy, release = threading.Event(), threading.Event()

    def hold(_step: int, _steps: int) -> None:
        busy.set()
        release.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(draw, engine, sd_model, make_plan(), on_step=hold)
        assert busy.wait(60)
        with pytest.raises(JobStopped):
            draw(engine, sd_model, make_plan(), should_stop=lambda: True)
        release.set()
        assert len(first.result(60)) == 1


def test_without_memory_the_request_fails_and_the_next_does_not(
    engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan
) -> None:
    expected = draw(engine, sd_model, make_plan())
    with pytest.raises(OutOfMemory):
        draw(engine, sd_model, make_plan(), on_step=lambda _step, _steps: torch.empty(2**50, dtype=torch.uint8))
    assert draw(engine, sd_model, make_plan()) == expected


def test_an_error_belongs_to_who_asked(engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan) -> None:
    prompt = " ".join(f"(a:0.{number})" for number in range(10, 80))
    with pytest.raises(InvalidInput):
        draw(engine, sd_model, make_plan(prompt=prompt))
    assert draw(engine, sd_model, make_plan())


def test_weights_and_long_prompts_change_the_image(
    engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan
) -> None:
    prompts = ["a red star", "a (red:1.8) star", "a (red:0.3) star", "a red star, " * 20, "a red star, " * 20 + "blue"]
    drawn = [draw(engine, sd_model, make_plan(prompt=prompt, guidance_scale=9.0))[0] for prompt in prompts]
    assert len(set(drawn)) == len(prompts)


def test_more_models_than_are_kept(engine: ImageEngine, make_plan: MakePlan, tmp_path: Path) -> None:
    models = [handle_of(save_sd(tmp_path / str(seed), seed=seed)) for seed in range(3)]
    first = [draw(engine, model, make_plan()) for model in models]
    assert [draw(engine, model, make_plan()) for model in models] == first
    assert len({image for images in first for image in images}) == 3


def test_it_says_what_it_holds(engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan) -> None:
    assert engine.holding().models == {}
    draw(engine, sd_model, make_plan())
    holding = engine.holding()
    assert holding.models == {sd_model.id: sd_model.name}
    assert holding.adapters["host"].adapters == 0


def test_inspecting_draws_once(engine: ImageEngine, sdxl_model: ModelHandle) -> None:
    facts = engine.inspect(sdxl_model, on_file=lambda: None, should_stop=lambda: False)
    assert facts.family is ModelFamily.SDXL
    assert facts.modules


def test_a_model_that_is_not_there(engine: ImageEngine, tmp_path: Path, make_plan: MakePlan) -> None:
    with pytest.raises(ModelUnusable, match="no folder"):
        draw(engine, handle_of(tmp_path / "none"), make_plan())


def test_a_loaded_model_needs_its_files_no_more(engine: ImageEngine, tmp_path: Path, make_plan: MakePlan) -> None:
    model = handle_of(save_sd(tmp_path / "sd"))
    first = draw(engine, model, make_plan())
    shutil.rmtree(tmp_path / "sd")
    assert draw(engine, model, make_plan()) == first


def test_closing_finishes_what_was_asked_for(engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan) -> None:
    busy = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(draw, engine, sd_model, make_plan(), on_step=lambda _step, _steps: busy.set())
        assert busy.wait(60)
        engine.close()
        assert len(asked.result(60)) == 1


def test_a_closed_engine_gives_the_job_back(engine: ImageEngine, sd_model: ModelHandle, make_plan: MakePlan) -> None:
    engine.close()
    with pytest.raises(JobInterrupted):
        draw(engine, sd_model, make_plan())
