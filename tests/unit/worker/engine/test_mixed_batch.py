"""Requests of every kind at once: each picture is what diffusers and peft draw of it alone."""

import hashlib
import random
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

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import JobStopped
from core.domain.generation import GenerationPlan, ResolvedAdapter, SchedulerName
from core.infra.settings import Settings
from tests.tiny_pipeline import save_lora
from worker.engine.image_engine import ImageEngine
from worker.engine.pipeline import image_to_image, load_pipeline
from worker.engine.scheduler import SchedulerMaker

MakePlan = Callable[..., GenerationPlan]
SCHEDULERS = (SchedulerName.DDIM, SchedulerName.EULER_ANCESTRAL, SchedulerName.HEUN, SchedulerName.DPMPP_SDE)
PROMPTS = ("a star", "a large red star on a blue background")
NEGATIVE = "green"
REQUESTS, CANCELED = 24, 4


class Bench:
    """An engine's model with adapters at hand, and the same drawn by diffusers and peft."""

    def __init__(self, engine: ImageEngine, settings: Settings, model: ModelHandle, folder: Path) -> None:
        self.engine, self.model, self.source = engine, model, Path(model.source)
        self.cache, self.folder = settings.cache_dir / "adapter", folder
        self.cache.mkdir(parents=True, exist_ok=True)
        self.adapters = [self._adapter(seed, rank) for seed, rank in enumerate((1, 2, 4, 8))]
        picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        self.init_image = Image.fromarray(picture)

    def _adapter(self, seed: int, rank: int) -> ResolvedAdapter:
        parts = ("unet", "text_encoder") if seed % 2 else ("unet",)
        file = save_lora(self.folder / f"{seed}.safetensors", self.source, seed=seed, rank=rank, parts=parts)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, self.cache / f"{digest}.safetensors")
        return ResolvedAdapter(
            id=digest,
            name=str(seed),
            version=1,
            sha256=digest,
            object_key="nowhere",
            weight=1.0,
            text_encoder_weight=1.0,
        )

    def draw(self, plan: GenerationPlan, **options: Any) -> np.ndarray:
        options = {"on_step": lambda _step, _steps: None, "should_stop": lambda: False} | options
        init_image = None if plan.strength is None else self.init_image
        [image] = self.engine.generate(self.model, plan, init_image=init_image, **options)
        return np.asarray(image, dtype=int)

    def alone(self, plan: GenerationPlan) -> np.ndarray:
        """By libraries only, from a model that never saw anything else."""
        pipeline: Any = load_pipeline(self.source, LoadOptions(), device="cpu")
        for adapter in plan.adapters:
            pipeline.load_lora_weights(
                str(self.folder / f"{adapter.name}.safetensors"), adapter_name=adapter.name, use_safetensors=True
            )
        if plan.adapters:
            pipeline.set_adapters([each.name for each in plan.adapters], [each.weight for each in plan.adapters])
        more: dict[str, Any] = {"width": plan.width, "height": plan.height}
        if plan.strength is not None:
            pipeline, more = image_to_image(pipeline), {"image": self.init_image, "strength": plan.strength}
        schedulers = SchedulerMaker(pipeline.scheduler.config)
        pipeline.scheduler = schedulers.make(plan.scheduler, steps=plan.steps, seed=plan.seed)
        with torch.inference_mode():
            image = pipeline(
                plan.prompt,
                negative_prompt=plan.negative_prompt or None,  # as the engine takes it
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance_scale,
                generator=torch.Generator("cpu").manual_seed(plan.seed),
                **more,
            ).images[0]
        return np.asarray(image, dtype=int)


@pytest.fixture(params=["sd", "sdxl"])
def bench(request: pytest.FixtureRequest, engine: ImageEngine, alone: Settings, tmp_path: Path) -> Bench:
    return Bench(engine, alone, request.getfixturevalue(f"{request.param}_model"), tmp_path)


def weighted(adapter: ResolvedAdapter, weight: float) -> ResolvedAdapter:
    return adapter.model_copy(update={"weight": weight, "text_encoder_weight": weight})


def anything(rng: random.Random, adapters: list[ResolvedAdapter], make_plan: MakePlan) -> GenerationPlan:
    chosen = rng.sample(adapters, rng.choice((0, 1, 1, 2, 3)))
    worn = tuple(weighted(each, rng.uniform(-1, 1.5)) for each in chosen)
    return make_plan(
        prompt=rng.choice(PROMPTS),
        negative_prompt=rng.choice(("", NEGATIVE)),
        guidance_scale=rng.choice((1.0, 3.0, 7.5)),
        steps=rng.randint(2, 7),
        seed=rng.randrange(10_000),
        scheduler=rng.choice(SCHEDULERS),
        strength=rng.choice((None, None, 0.6)),
        width=rng.choice((32, 32, 64)) if not chosen else 32,
        adapters=worn,
    )


def test_whatever_its_mates_a_picture_is_what_libraries_draw_of_it_alone(bench: Bench, make_plan: MakePlan) -> None:
    rng = random.Random(1)
    plain = make_plan(seed=5)
    base = bench.draw(plain)
    plans = [anything(rng, bench.adapters, make_plan) for _ in range(REQUESTS)]
    stop = threading.Event()

    def canceled(plan: GenerationPlan) -> None:
        with pytest.raises(JobStopped):
            bench.draw(plan.model_copy(update={"steps": 400}), should_stop=stop.is_set)

    with ThreadPoolExecutor(REQUESTS + CANCELED) as pool:
        futures = [pool.submit(canceled, anything(rng, bench.adapters, make_plan)) for _ in range(CANCELED)]
        drawn = list(pool.map(bench.draw, plans))
        stop.set()
        for future in futures:
            future.result()
    for plan, image in zip(plans, drawn, strict=True):
        difference = np.abs(image - bench.alone(plan))
        assert difference.max() <= 1, (plan, difference.max())
        assert difference.mean() < 0.02, plan
    assert np.array_equal(bench.draw(plain), base), "nothing is left of what others wore"
