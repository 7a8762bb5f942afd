"""Whatever else diffusers draws with: by its own call, one picture after the other."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from PIL import Image

from core.domain.base_model import ModelFamily
from core.domain.errors import InvalidInput, JobFailure, JobStopped, ModelUnusable
from core.domain.generation import GenerationPlan, ResolvedAdapter, SchedulerName
from tests.engine_bench import draw_alone
from tests.unit.worker.engine.conftest import handle_of
from worker.engine.image_engine import ImageEngine
from worker.engine.other_model import call, inputs_for

MakePlan = Callable[..., GenerationPlan]
OPTIONS: dict[str, Any] = {"on_step": lambda _step, _steps: None, "should_stop": lambda: False}
ADAPTER = ResolvedAdapter(
    id="a", name="a", version=1, sha256="a" * 64, object_key="a", weight=1.0, text_encoder_weight=1.0
)


@pytest.fixture
def plan(make_plan: MakePlan) -> GenerationPlan:
    return make_plan(negative_prompt="", scheduler=SchedulerName.LCM)


def alone(folder: Path, plan: GenerationPlan) -> np.ndarray:
    pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return np.asarray(draw_alone(pipeline, plan))


def test_it_draws_what_diffusers_draws(engine: ImageEngine, lcm_folder: Path, plan: GenerationPlan) -> None:
    model, seen = handle_of(lcm_folder), []
    facts = engine.inspect(model, on_file=lambda: None, should_stop=lambda: False)
    assert (facts.family, facts.modules) == (ModelFamily.OTHER, {})
    assert (facts.defaults.scheduler, facts.defaults.steps, facts.defaults.width) == (SchedulerName.LCM, 4, 32)
    many = plan.model_copy(update={"num_images": 2})
    drawn = engine.generate(model, many, on_step=lambda *step: seen.append(step), should_stop=lambda: False)
    for index, image in enumerate(drawn):
        assert np.array_equal(np.asarray(image), alone(lcm_folder, plan.model_copy(update={"seed": 7 + index})))
    assert seen[-1] == (6, 6)


def test_many_at_once_beside_a_model_that_shares_calls(
    engine: ImageEngine, lcm_folder: Path, sd_folder: Path, plan: GenerationPlan
) -> None:
    models = [handle_of(lcm_folder), handle_of(sd_folder)]
    asks = [(models[seed % 2], plan.model_copy(update={"seed": seed})) for seed in range(6)]
    with ThreadPoolExecutor(len(asks)) as pool:
        drawn = list(pool.map(lambda ask: engine.generate(*ask, **OPTIONS)[0], asks))
    for (model, asked), image in zip(asks, drawn, strict=True):
        if model is models[0]:
            assert np.array_equal(np.asarray(image), alone(lcm_folder, asked))


def test_between_its_pictures_it_stops(engine: ImageEngine, lcm_folder: Path, plan: GenerationPlan) -> None:
    many, seen = plan.model_copy(update={"num_images": 8}), []
    with pytest.raises(JobStopped):
        engine.generate(
            handle_of(lcm_folder), many, on_step=lambda *step: seen.append(step), should_stop=lambda: len(seen) > 3
        )
    assert max(step for step, _ in seen) <= 2 * plan.steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"negative_prompt": "green"}, "negative_prompt: LatentConsistencyModelPipeline takes none"),
        ({"strength": 0.5}, "init_image: LatentConsistencyModelPipeline draws from a prompt alone"),
        ({"adapters": (ADAPTER,)}, "adapters: LatentConsistencyModelPipeline draws from a prompt alone"),
    ],
)
def test_what_it_cannot_do_is_said(lcm_folder: Path, plan: GenerationPlan, changes: dict[str, Any], words: str) -> None:
    pipeline = DiffusionPipeline.from_pretrained(lcm_folder, local_files_only=True, use_safetensors=True)
    with pytest.raises(InvalidInput, match=words):
        inputs_for(pipeline, plan.model_copy(update=changes), {})


def test_an_image_to_begin_with_fails_who_asked(engine: ImageEngine, lcm_folder: Path, plan: GenerationPlan) -> None:
    asked = plan.model_copy(update={"strength": 0.5})
    with pytest.raises(InvalidInput, match="init_image"):
        engine.generate(handle_of(lcm_folder), asked, init_image=Image.new("RGB", (32, 32)), **OPTIONS)


class Demanding:
    """A pipeline that needs what no request has, and cannot bear a width."""

    def __call__(self, prompt: str, control_image: Any, steps: int = 3) -> None:
        raise ValueError("I cannot.\nReally.")


def test_what_it_needs_and_how_it_fails_is_told(plan: GenerationPlan) -> None:
    with pytest.raises(ModelUnusable, match="Demanding needs control_image"):
        inputs_for(Demanding(), plan, {"width": 32})
    inputs = inputs_for(Demanding(), plan, {"width": 32, "control_image": None})
    assert inputs == {"prompt": plan.prompt, "control_image": None}
    with pytest.raises(JobFailure, match=r"Demanding failed: I cannot\.$"):
        call(Demanding(), lambda: Demanding()(**inputs))


def test_code_in_its_folder_is_never_run(
    engine: ImageEngine, lcm_folder: Path, tmp_path: Path, plan: GenerationPlan
) -> None:
    folder, mark = Path(shutil.copytree(lcm_folder, tmp_path / "model")), tmp_path / "run"
    code = f"open({str(mark)!r}, 'w')\nfrom diffusers import *\n"
    for file in ("pipeline.py", "evil.py", "scheduler/evil.py", "unet/evil.py"):
        (folder / file).write_text(code)
    index = folder / "model_index.json"
    said = json.loads(index.read_text())
    assert engine.generate(handle_of(folder), plan, **OPTIONS)
    for changes in ({"_class_name": ["pipeline", "Evil"]}, {"scheduler": ["evil", "LCMScheduler"]}):
        index.write_text(json.dumps(said | changes))
        with pytest.raises(ModelUnusable):
            engine.generate(handle_of(folder), plan, **OPTIONS)
    assert not mark.exists()
