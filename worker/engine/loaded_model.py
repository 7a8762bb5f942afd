"""A base model on its device: draws the images of a plan, one by one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from core.domain.base_model import ModelFacts
from core.domain.errors import JobFailure, JobStopped
from core.domain.generation import GenerationPlan
from worker.engine.adapter import AdapterRack
from worker.engine.inspection import inspect_pipeline
from worker.engine.pipeline import Pipeline, image_to_image
from worker.engine.prompt import PromptEncoder
from worker.engine.scheduler import SchedulerMaker


class LoadedModel:
    """Everything that is kept between the requests of one model. For one thread only."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.facts: ModelFacts = inspect_pipeline(pipeline, folder)
        self._text_to_image = pipeline
        self._image_to_image = image_to_image(pipeline)
        self._schedulers = SchedulerMaker(pipeline.scheduler.config)
        self._prompts = PromptEncoder(pipeline)
        self._adapters = AdapterRack(pipeline)

    def draw(
        self,
        plan: GenerationPlan,
        *,
        adapter_files: Mapping[str, Path],
        init_image: Image.Image | None,
        on_step: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> list[Image.Image]:
        """Image i comes from seed + i. Alone or beside others it is the same, bit by bit, so each is drawn alone.

        Raises:
            JobStopped: `should_stop` said so.
            AdapterUnusable: an adapter does not fit.
            InvalidInput: a prompt cannot be encoded.
        """
        adapters = self._adapters.apply(plan.adapters, files=adapter_files)
        is_guided = plan.guidance_scale > 1
        with torch.inference_mode():
            inputs: dict[str, Any] = self._prompts.encode(
                plan.prompt, plan.negative_prompt if is_guided else None, adapters=adapters
            )
            pipeline = self._text_to_image
            if init_image is None:
                inputs |= {"width": plan.width, "height": plan.height}
            else:
                pipeline = self._image_to_image
                inputs |= {"image": _fitted(init_image, plan), "strength": _strength(plan)}
            images = []
            for index in range(plan.num_images):
                watch = _watch(plan, index, on_step=on_step, should_stop=should_stop)
                images.append(
                    self._draw_one(pipeline, plan, plan.seed + index, inputs | {"callback_on_step_end": watch})
                )
        return images

    def _draw_one(self, pipeline: Any, plan: GenerationPlan, seed: int, inputs: dict[str, Any]) -> Image.Image:
        pipeline.scheduler = self._schedulers.make(plan.scheduler, steps=plan.steps, seed=seed)
        try:
            pixels = pipeline(
                **inputs,
                num_inference_steps=plan.steps,
                guidance_scale=plan.guidance_scale,
                # On the CPU, so that a seed means the same noise on every device.
                generator=torch.Generator("cpu").manual_seed(seed),
                callback_on_step_end_tensor_inputs=[],
                output_type="np",
            ).images[0]
        except BaseException:
            pipeline.maybe_free_model_hooks()
            raise
        if not np.isfinite(pixels).all():
            raise JobFailure(f"{plan.scheduler} in {plan.steps} steps gave numbers that are no picture.")
        return Image.fromarray((pixels * 255).round().astype(np.uint8))


def _watch(
    plan: GenerationPlan, index: int, *, on_step: Callable[[int, int], None], should_stop: Callable[[], bool]
) -> Callable[..., dict[str, Any]]:
    total = plan.denoising_steps * plan.num_images
    if should_stop():
        raise JobStopped

    def watch(pipeline: Any, step: int, _timestep: Any, _tensors: Any) -> dict[str, Any]:
        # Solvers of order 2 call twice a step, some once more at the start.
        done = min(step // pipeline.scheduler.order + 1, plan.denoising_steps)
        on_step(index * plan.denoising_steps + done, total)
        if should_stop():
            raise JobStopped
        return {}

    return watch


def _fitted(image: Image.Image, plan: GenerationPlan) -> Image.Image:
    image = image.convert("RGB")
    size = (plan.width, plan.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _strength(plan: GenerationPlan) -> float:
    """The strength at which diffusers computes exactly `plan.denoising_steps`; it takes int(steps * strength)."""
    return min(1.0, (plan.denoising_steps + 0.5) / plan.steps)
