"""Stable Diffusion 3 and Flux, whose denoiser is a transformer: what diffusers and peft draw, alone and in company."""

import hashlib
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from core.domain.base_model import LoadOptions, ModelFamily, ModelHandle
from core.domain.errors import InvalidInput
from core.domain.generation import GenerationPlan, ResolvedAdapter, SchedulerName
from core.infra.settings import Settings
from tests.engine_bench import draw_alone
from tests.tiny_pipeline import save_flux, save_lora, save_sd3
from tests.unit.worker.engine.conftest import handle_of
from worker.engine.adapter_reader import read_adapter
from worker.engine.image_engine import ImageEngine
from worker.engine.inspection import inspect_pipeline
from worker.engine.pipeline import image_to_image, load_pipeline
from worker.engine.scheduler import SchedulerMaker

MakePlan = Callable[..., GenerationPlan]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
SIZES = ((32, 32), (32, 32), (64, 16), (16, 64))
"""The last two have as many places as the first, but others."""
REQUESTS = 12


class Bench:
    """An engine with a model and two adapters, and the same drawn by diffusers and peft."""

    def __init__(self, engine: ImageEngine, settings: Settings, source: Path, folder: Path) -> None:
        self.engine, self.source, self.folder = engine, source, folder
        self.model = handle_of(source)
        self.has_negative = "Flux" not in (source / "model_index.json").read_text()
        self.cache = settings.cache_dir / "adapter"
        self.cache.mkdir(parents=True, exist_ok=True)
        self.adapters = [self.adapter(1, ("transformer",)), self.adapter(2, ("transformer", "text_encoder"))]

    def adapter(self, seed: int, parts: tuple[str, ...]) -> ResolvedAdapter:
        file = save_lora(self.folder / f"{seed}.safetensors", self.source, seed=seed, rank=2 * seed, parts=parts)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, self.cache / f"{digest}.safetensors")
        known = {"id": digest, "name": str(seed), "version": 1, "sha256": digest, "object_key": "nowhere"}
        return ResolvedAdapter(**known, weight=0.7, text_encoder_weight=0.7)

    def draw(self, plan: GenerationPlan) -> np.ndarray:
        init_image = None if plan.strength is None else PICTURE
        options: dict[str, Any] = {"on_step": lambda _step, _steps: None, "should_stop": lambda: False}
        [image] = self.engine.generate(self.model, plan, init_image=init_image, **options)
        return np.asarray(image, dtype=int)

    def alone(self, plan: GenerationPlan) -> np.ndarray:
        """By libraries only: nothing of ours has touched the pipeline."""
        pipeline: Any = DiffusionPipeline.from_pretrained(self.source, local_files_only=True, use_safetensors=True)
        for adapter in plan.adapters:
            pipeline.load_lora_weights(
                str(self.folder / f"{adapter.name}.safetensors"), adapter_name=adapter.name, use_safetensors=True
            )
        if plan.adapters:
            pipeline.set_adapters([each.name for each in plan.adapters], [each.weight for each in plan.adapters])
        more: dict[str, Any] = {"negative_prompt": plan.negative_prompt} if self.has_negative else {}
        if plan.strength is not None:
            pipeline = image_to_image(pipeline)
            more |= {"image": PICTURE, "strength": plan.strength}
        if plan.scheduler is not SchedulerName.EULER:
            maker = SchedulerMaker(pipeline.scheduler.config, is_flow=True)
            pipeline.scheduler = maker.make(plan.scheduler, steps=plan.steps, seed=plan.seed)
        with torch.inference_mode():
            image = draw_alone(pipeline, plan, **more)
        return np.asarray(image, dtype=int)


@pytest.fixture(params=["sd3", "flux"])
def bench(request: pytest.FixtureRequest, engine: ImageEngine, alone: Settings, tmp_path: Path) -> Bench:
    return Bench(engine, alone, request.getfixturevalue(f"{request.param}_folder"), tmp_path)


@pytest.fixture
def make(bench: Bench, make_plan: MakePlan) -> MakePlan:
    def make(**changes: Any) -> GenerationPlan:
        negative_prompt = "green" if bench.has_negative else ""
        return make_plan(**({"scheduler": SchedulerName.EULER, "negative_prompt": negative_prompt} | changes))

    return make


def test_alone_it_is_diffusers_own_bit_by_bit(bench: Bench, make: MakePlan) -> None:
    plans = [make(), make(guidance_scale=1.0, prompt="a (red:1.3) star"), make(strength=0.6, steps=5)]
    plans += [make(scheduler=SchedulerName.EULER_KARRAS), make(width=64, steps=2)]
    for plan in plans:
        assert np.array_equal(bench.draw(plan), bench.alone(plan)), plan


def test_an_adapter_is_what_peft_makes_of_it(bench: Bench, make: MakePlan) -> None:
    bare = bench.draw(make())
    for adapters in ((bench.adapters[0],), tuple(bench.adapters)):
        drawn = bench.draw(make(adapters=adapters))
        assert np.abs(drawn - bench.alone(make(adapters=adapters))).max() <= 1
        assert np.abs(drawn - bare).mean() > 2
    assert np.array_equal(bench.draw(make()), bare), "nothing is left of what was worn"


def test_whatever_its_mates_a_picture_is_what_libraries_draw_of_it_alone(bench: Bench, make: MakePlan) -> None:
    rng = random.Random(1)

    def anything() -> GenerationPlan:
        width, height = rng.choice(SIZES)
        chosen = rng.sample(bench.adapters, rng.choice((0, 1, 2)))
        return make(
            prompt=rng.choice(("a star", "a large red star on a blue background")),
            guidance_scale=rng.choice((1.0, 3.0, 7.5)),
            steps=rng.randint(2, 5),
            seed=rng.randrange(1000),
            strength=rng.choice((None, None, 0.6)) if width == height else None,
            width=width,
            height=height,
            adapters=tuple(each.model_copy(update={"weight": rng.uniform(-1, 1.5)}) for each in chosen),
        )

    plans = [_same_weight(anything()) for _ in range(REQUESTS)]
    with ThreadPoolExecutor(REQUESTS) as pool:
        drawn = list(pool.map(bench.draw, plans))
    for plan, image in zip(plans, drawn, strict=True):
        difference = np.abs(image - bench.alone(plan))
        assert difference.max() <= 1, (plan, difference.max())


def _same_weight(plan: GenerationPlan) -> GenerationPlan:
    worn = tuple(each.model_copy(update={"text_encoder_weight": each.weight}) for each in plan.adapters)
    return plan.model_copy(update={"adapters": worn})


def test_they_are_told_by_their_pipeline(sd3_folder: Path, flux_folder: Path) -> None:
    for folder, family, scale in ((sd3_folder, ModelFamily.SD3, 7.0), (flux_folder, ModelFamily.FLUX, 3.5)):
        facts = inspect_pipeline(load_pipeline(folder, LoadOptions(), device="cpu"), folder)
        assert facts.family is family
        assert (facts.defaults.guidance_scale, facts.defaults.steps) == (scale, 28)
        assert facts.defaults.scheduler is SchedulerName.EULER
        assert facts.defaults.width == (32 if family is ModelFamily.SD3 else 256)
        assert facts.modules["transformer.transformer_blocks.0.attn.to_q"] == (32, 32)
        assert {name.split(".")[0] for name in facts.modules} <= {"transformer", "text_encoder", "text_encoder_2"}
        assert not any("shared" in name for name in facts.modules), "T5 takes no adapters"


def test_what_they_cannot_do_is_said(engine: ImageEngine, flux_folder: Path, make_plan: MakePlan) -> None:
    options: dict[str, Any] = {"on_step": lambda _step, _steps: None, "should_stop": lambda: False}
    model = handle_of(flux_folder)
    with pytest.raises(InvalidInput, match="negative_prompt: Flux takes none"):
        engine.generate(model, make_plan(scheduler=SchedulerName.EULER), **options)
    with pytest.raises(InvalidInput, match="ddim is not for this model; there are euler, euler_karras, heun"):
        engine.generate(model, make_plan(negative_prompt="", scheduler=SchedulerName.DDIM), **options)


def test_without_its_optional_parts(engine: ImageEngine, tmp_path: Path, make_plan: MakePlan) -> None:
    """Stable Diffusion 3 without T5; Flux that takes no guidance."""
    sd3 = handle_of(save_sd3(tmp_path / "sd3", has_t5=False))
    flux = handle_of(save_flux(tmp_path / "flux", is_guided=False))
    options: dict[str, Any] = {"on_step": lambda _step, _steps: None, "should_stop": lambda: False}

    def draw(model: ModelHandle, **changes: Any) -> bytes:
        plan = make_plan(**({"negative_prompt": "", "scheduler": SchedulerName.EULER} | changes))
        return engine.generate(model, plan, **options)[0].tobytes()

    assert draw(sd3) == draw(sd3) != draw(sd3, prompt="a blue square")
    assert draw(flux) == draw(flux, guidance_scale=9.0) != draw(flux, seed=8)


FUSED = {"double_blocks_0_img_attn_qkv": 96, "double_blocks_0_txt_attn_qkv": 96, "double_blocks_0_img_attn_proj": 32}
"""Layers of the original Flux by kohya's names, with their outputs; all take 32 inputs."""


@pytest.mark.parametrize("trainer", ["kohya", "onetrainer"])
def test_files_in_the_names_of_other_trainers(
    engine: ImageEngine, alone: Settings, flux_folder: Path, tmp_path: Path, make_plan: MakePlan, trainer: str
) -> None:
    bench = Bench(engine, alone, flux_folder, tmp_path)
    torch.manual_seed(3)
    if trainer == "kohya":
        tensors = {}
        for name, outputs in FUSED.items():
            tensors[f"lora_unet_{name}.lora_down.weight"] = torch.randn(4, 32) / 4
            tensors[f"lora_unet_{name}.lora_up.weight"] = torch.randn(outputs, 4) / 4
            tensors[f"lora_unet_{name}.alpha"] = torch.tensor(2.0)
        expected = theirs = tensors
    else:
        expected = load_file(bench.folder / "1.safetensors")
        theirs = {}
        for name, tensor in expected.items():
            module, way = name.removesuffix(".weight").split(".lora.")
            flat = module.removeprefix("transformer.").replace(".", "_")
            theirs[f"lora_transformer_{flat}.lora_{way}.weight"] = tensor
    file = tmp_path / "theirs.safetensors"
    save_file(theirs, file)
    pipeline: Any = DiffusionPipeline.from_pretrained(flux_folder, local_files_only=True, use_safetensors=True)
    found = read_adapter(file, pipeline, sha256="0" * 64)
    pipeline.load_lora_weights(dict(expected), adapter_name="a", use_safetensors=True)
    modules = {f"transformer.{name}": module for name, module in pipeline.transformer.named_modules()}
    worn = {name for name, module in modules.items() if hasattr(module, "lora_A") and "a" in module.lora_A}
    assert worn == found.layers.keys()
    for name, change in found.layers.items():
        delta = modules[name].get_delta_weight("a")
        assert torch.allclose(change.delta(delta.shape), delta, atol=1e-6), name


def test_heuns_solver(
    engine: ImageEngine, alone: Settings, sd3_folder: Path, tmp_path: Path, make_plan: MakePlan
) -> None:
    bench = Bench(engine, alone, sd3_folder, tmp_path)
    for strength in (None, 0.6):
        plan = make_plan(scheduler=SchedulerName.HEUN, strength=strength, steps=5)
        assert np.array_equal(bench.draw(plan), bench.alone(plan))
