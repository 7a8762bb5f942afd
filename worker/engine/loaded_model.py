"""A base model on its device: what a plan's images are made by, and the networks that answer them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from core.domain.base_model import ModelFacts
from core.domain.errors import JobFailure
from core.domain.generation import GenerationPlan
from worker.engine.adapter_row import AdapterRows, Mix, text_state
from worker.engine.inspection import inspect_pipeline
from worker.engine.picture import Relay
from worker.engine.pipeline import Pipeline, image_to_image
from worker.engine.prompt import PromptEncoder
from worker.engine.question import Question, merge, split
from worker.engine.scheduler import SchedulerMaker

Paint = Callable[[], Image.Image]
"""Makes one image, in a Picture."""


class LoadedModel:
    """Everything that is kept between the requests of one model. For one thread only, under inference mode."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.facts: ModelFacts = inspect_pipeline(pipeline, folder)
        self.pipeline = pipeline
        self._image_to_image = image_to_image(pipeline)
        self._schedulers = SchedulerMaker(pipeline.scheduler.config)
        self._prompts = PromptEncoder(pipeline)
        self._rows = AdapterRows(pipeline)
        self._networks: dict[str, Callable[..., Any]] = {"unet": pipeline.unet, "vae.decode": pipeline.vae.decode}
        self._relays: dict[str, Relay] = {}
        if not hasattr(pipeline.unet, "_hf_hook"):  # accelerate moves the parts of a pipeline while it is called
            self._relays["unet"] = Relay(pipeline.unet, "unet")
            self._relays["vae"] = Relay(pipeline.vae, "vae", methods=("decode",), ignored=("generator",))

    def begin(
        self,
        plan: GenerationPlan,
        *,
        mix: Mix,
        init_image: Image.Image | None,
        on_step: Callable[[int], None],
    ) -> list[Paint]:
        """What makes each image of a plan whose adapters are `mix`: image i comes from seed + i.

        `on_step(n)` is told how many denoising steps of all images are done.

        Raises:
            InvalidInput: a prompt cannot be encoded.
        """
        inputs = self._encode(plan, mix)
        pipeline: Any = self.pipeline
        if init_image is None:
            inputs |= {"width": plan.width, "height": plan.height}
        else:
            pipeline = self._image_to_image
            inputs |= {"image": _fitted(init_image, plan), "strength": _strength(plan)}
        watch = _Watch(plan, on_step)
        return [
            partial(self._paint, pipeline, plan, index, mix, inputs | {"callback_on_step_end": watch.of_image(index)})
            for index in range(plan.num_images)
        ]

    def answer(self, questions: Sequence[Question], wears: Sequence[Mix]) -> list[Any]:
        """One call of a network for questions of one shape, of pictures that wear these adapters."""
        self._rows.wear([mix for question, mix in zip(questions, wears, strict=True) for _ in range(question.rows)])
        arguments, options = merge(questions)
        return split(self._networks[questions[0].network](*arguments, **options), questions)

    def forget_adapters(self) -> None:
        """Keep no copy of what was worn."""
        self._rows.forget()

    def _encode(self, plan: GenerationPlan, mix: Mix) -> dict[str, Any]:
        state = text_state(mix)
        # What the UNet wears is not put on for this: it would have to be stacked.
        self._rows.wear([tuple(replace(portion, weight=0.0) for portion in mix)] if state else [()])
        negative_prompt = plan.negative_prompt if plan.guidance_scale > 1 else None
        return dict(self._prompts.encode(plan.prompt, negative_prompt, adapters=state))

    def _paint(self, kind: Any, plan: GenerationPlan, index: int, mix: Mix, inputs: dict[str, Any]) -> Image.Image:
        seed = plan.seed + index
        if not self._relays:
            self._rows.wear([mix])
        pipeline = copy.copy(kind)  # it keeps the state of a call on itself
        vars(pipeline).update(
            self._relays, scheduler=self._schedulers.make(plan.scheduler, steps=plan.steps, seed=seed)
        )
        pixels = pipeline(
            **inputs,
            num_inference_steps=plan.steps,
            guidance_scale=plan.guidance_scale,
            # On the CPU, so that a seed means the same noise on every device.
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end_tensor_inputs=[],
            output_type="np",
        ).images[0]
        if not np.isfinite(pixels).all():
            raise JobFailure(f"{plan.scheduler} in {plan.steps} steps gave numbers that are no picture.")
        return Image.fromarray((pixels * 255).round().astype(np.uint8))


class _Watch:
    """Adds up the steps of a plan's images."""

    def __init__(self, plan: GenerationPlan, on_step: Callable[[int], None]) -> None:
        self._steps, self._on_step = plan.denoising_steps, on_step
        self._done = [0] * plan.num_images

    def of_image(self, index: int) -> Callable[..., dict[str, Any]]:
        def watch(pipeline: Any, step: int, _timestep: Any, _tensors: Any) -> dict[str, Any]:
            # Solvers of order 2 call twice a step, some once more at the start.
            self._done[index] = min(step // pipeline.scheduler.order + 1, self._steps)
            self._on_step(sum(self._done))
            return {}

        return watch


def _fitted(image: Image.Image, plan: GenerationPlan) -> Image.Image:
    image = image.convert("RGB")
    size = (plan.width, plan.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _strength(plan: GenerationPlan) -> float:
    """The strength at which diffusers computes exactly `plan.denoising_steps`; it takes int(steps * strength)."""
    return min(1.0, (plan.denoising_steps + 0.5) / plan.steps)
