"""On a CUDA device pictures are what diffusers draws of them alone, whatever their mates."""

import hashlib
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.generation import GenerationPlan, ResolvedAdapter, SchedulerName
from core.infra.settings import Settings
from tests.engine_bench import draw_alone
from tests.gpu.conftest import EXACT
from tests.tiny_pipeline import save_lora
from worker.engine.device_copy import Download, upload
from worker.engine.image_engine import ImageEngine
from worker.engine.pipeline import load_pipeline
from worker.engine.scheduler import SchedulerMaker

pytestmark = pytest.mark.gpu
MakePlan = Callable[..., GenerationPlan]


def draw(engine: ImageEngine, model: ModelHandle, plan: GenerationPlan) -> np.ndarray:
    images = engine.generate(model, plan, on_step=lambda _step, _steps: None, should_stop=lambda: False)
    return np.stack([np.asarray(image, dtype=int) for image in images])


def alone(pipeline: Any, plan: GenerationPlan, *, is_flow: bool = False) -> np.ndarray:
    """By diffusers' own call."""
    schedulers = SchedulerMaker(pipeline.scheduler.config, is_flow=is_flow)
    pipeline.scheduler = schedulers.make(plan.scheduler, steps=plan.steps, seed=plan.seed)
    with torch.inference_mode():
        return np.asarray(draw_alone(pipeline, plan), dtype=int)


@pytest.mark.parametrize("scheduler", SchedulerName)
def test_every_scheduler_is_as_on_its_own(
    scheduler: SchedulerName, engine: ImageEngine, models: dict[str, ModelHandle], make_plan: MakePlan
) -> None:
    plan = make_plan(scheduler=scheduler)
    expected = alone(load_pipeline(Path(models["sd"].source), EXACT), plan)
    [found] = draw(engine, models["sd"], plan)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_pictures_that_share_calls_are_as_on_their_own(
    family: str, engine: ImageEngine, models: dict[str, ModelHandle], make_plan: MakePlan
) -> None:
    """Often enough that the calls are replayed."""
    plans = [make_plan(seed=seed, steps=6 + seed % 3) for seed in range(12)]
    pipeline = load_pipeline(Path(models[family].source), EXACT)
    expected = [alone(pipeline, plan, is_flow=family in ("sd3", "flux")) for plan in plans]
    with ThreadPoolExecutor(len(plans)) as threads:
        for _ in range(3):
            found = list(threads.map(lambda plan: draw(engine, models[family], plan)[0], plans))
            assert max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)) <= 1


def adapters_in(folder: Path, settings: Settings, source: Path, count: int) -> list[ResolvedAdapter]:
    cache = settings.cache_dir / "adapter"
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(count):
        parts = ("unet", "text_encoder") if seed % 2 else ("unet",)
        file = save_lora(folder / f"{seed}.safetensors", source, seed=seed, rank=(2, 4)[seed % 2], parts=parts)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, cache / f"{digest}.safetensors")
        found.append(
            ResolvedAdapter(
                id=digest, name=str(seed), version=1, sha256=digest, object_key="", weight=1.0, text_encoder_weight=1.0
            )
        )
    return found


def test_each_row_wears_its_own(
    engine: ImageEngine, settings: Settings, models: dict[str, ModelHandle], make_plan: MakePlan, tmp_path: Path
) -> None:
    source = Path(models["sd"].source)
    known = adapters_in(tmp_path, settings, source, 6)
    plans = [make_plan(seed=seed, adapters=(known[seed % 6],) if seed % 4 else ()) for seed in range(16)]
    pipeline: Any = load_pipeline(source, EXACT)
    expected = []
    for plan in plans:
        for each in plan.adapters:
            pipeline.load_lora_weights(str(tmp_path / f"{each.name}.safetensors"), use_safetensors=True)
        expected.append(alone(pipeline, plan))
        pipeline.unload_lora_weights()
    with ThreadPoolExecutor(8) as threads:
        for chance in range(4):
            order = random.Random(chance).sample(range(16), 16)
            found = list(threads.map(lambda index: draw(engine, models["sd"], plans[index])[0], order))
            assert max(np.abs(a - expected[i]).max() for a, i in zip(found, order, strict=True)) <= 1


@pytest.mark.filterwarnings("ignore::Warning:torch")  # its compiler tells of itself and of numbers that we want exact
@pytest.mark.parametrize(
    "changes", [{"channels_last": True}, {"compile": True}, {"attention": "cudnn"}, {"attention": "math"}]
)
def test_options_change_the_speed_alone(
    changes: dict[str, Any], engine: ImageEngine, models: dict[str, ModelHandle], make_plan: MakePlan
) -> None:
    plan = make_plan(num_images=4)
    model = models["sd"]
    changed = ModelHandle(model.id, "changed", model.source, None, EXACT.model_copy(update=changes))
    assert np.abs(draw(engine, model, plan) - draw(engine, changed, plan)).max() <= 1


def test_copies_go_beside_what_is_computed() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    memory = torch.arange(2**20, dtype=torch.int32).pin_memory()
    there = upload(memory, device)
    assert Download(there * 2).fetch().equal(memory * 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_numbers_are_those_of_diffusers(
    dtype: Literal["bfloat16", "float16"], engine: ImageEngine, models: dict[str, ModelHandle], make_plan: MakePlan
) -> None:
    plan, model = make_plan(), models["sd"]
    options = LoadOptions(dtype=dtype, device="cuda")
    expected = alone(load_pipeline(Path(model.source), options), plan)
    half = ModelHandle(model.id, dtype, model.source, None, options)
    for _ in range(3):  # replayed at last
        assert np.abs(draw(engine, half, plan)[0] - expected).max() <= 1
