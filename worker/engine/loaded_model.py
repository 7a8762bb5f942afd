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

from core.domain.base_model import ModelFacts, ModelFamily
from core.domain.errors import InvalidInput, JobFailure
from core.domain.generation import GenerationPlan
from worker.engine.adapter_row import AdapterRows, Mix, text_state
from worker.engine.inspection import inspect_pipeline
from worker.engine.other_pipeline import call, inputs_for
from worker.engine.picture import Relay
from worker.engine.pipeline import Pipeline, denoiser_name, image_to_image
from worker.engine.prompt import PromptEncoder
from worker.engine.question import WHOLE, Question, merge, split
from worker.engine.scheduler import SchedulerMaker

Paint = Callable[[], Image.Image]
"""Makes one image, in a Picture."""


_FLOW = (ModelFamily.SD3, ModelFamily.FLUX)


class LoadedModel:
    """Everything that is kept between the requests of one model. For one thread only, under inference mode.

    Pictures of a family share the calls of its networks. A pipeline of no family, and one whose parts are moved
    while it runs, is asked for whole pictures, one after the other.
    """

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.facts: ModelFacts = inspect_pipeline(pipeline, folder)
        self.pipeline = pipeline
        self._networks: dict[str, Callable[..., Any]] = {}
        self._relays: dict[str, Relay] = {}
        self._whole = Relay(None, WHOLE)
        if self.facts.family is ModelFamily.OTHER:
            return
        self._image_to_image = image_to_image(pipeline)
        self._schedulers = SchedulerMaker(pipeline.scheduler.config, is_flow=self.facts.family in _FLOW)
        self._prompts = PromptEncoder(pipeline)
        self._rows = AdapterRows(pipeline)
        name = denoiser_name(pipeline)
        denoiser = getattr(pipeline, name)
        self._networks = {name: denoiser, "vae.decode": pipeline.vae.decode}
        if not hasattr(denoiser, "_hf_hook"):  # accelerate moves the parts of a pipeline while it is called
            self._relays[name] = Relay(denoiser, name)
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
            InvalidInput: a prompt cannot be encoded, or the model cannot do what the plan asks for.
            ModelUnusable: it needs more than a plan says.
        """
        pipeline: Any = self.pipeline
        inputs: dict[str, Any] = {
            "width": plan.width,
            "height": plan.height,
            "num_inference_steps": plan.steps,
            "guidance_scale": plan.guidance_scale,
            "callback_on_step_end_tensor_inputs": [],
            "output_type": "np",
        }
        watch = _Watch(plan, on_step)
        if self.facts.family is not ModelFamily.OTHER:
            inputs |= self._encode(plan, mix)
            if init_image is not None:
                pipeline = self._image_to_image
                inputs = self._from_image(inputs, plan, init_image)
        paints: list[Paint] = []
        for index in range(plan.num_images):
            own = {
                "callback_on_step_end": watch.of_image(index),
                # On the CPU, so that a seed means the same noise on every device.
                "generator": torch.Generator("cpu").manual_seed(plan.seed + index),
            }
            if self.facts.family is ModelFamily.OTHER:
                paint = partial(self._paint_other, plan, inputs_for(pipeline, plan, inputs | own))
            else:
                paint = partial(self._paint, pipeline, plan, index, inputs | own)
            paints.append(paint if self._relays else partial(self._whole, paint))
        return paints

    def answer(self, questions: Sequence[Question], wears: Sequence[Mix]) -> list[Any]:
        """One call of a network for questions of one shape, of pictures that wear these adapters."""
        if questions[0].network == WHOLE:
            return [self._answer_whole(question, mix) for question, mix in zip(questions, wears, strict=True)]
        self._rows.wear([mix for question, mix in zip(questions, wears, strict=True) for _ in range(question.rows)])
        arguments, options = merge(questions)
        return split(self._networks[questions[0].network](*arguments, **options), questions)

    def forget_adapters(self) -> None:
        """Keep no copy of what was worn."""
        if self.facts.family is not ModelFamily.OTHER:
            self._rows.forget()

    def _encode(self, plan: GenerationPlan, mix: Mix) -> dict[str, Any]:
        state = text_state(mix)
        # What the denoiser wears is not put on for this: it would have to be stacked.
        self._rows.wear([tuple(replace(portion, weight=0.0) for portion in mix)] if state else [()])
        negative_prompt = plan.negative_prompt if plan.guidance_scale > 1 else None
        if self.facts.family is ModelFamily.FLUX:
            # Its guidance is an input of the transformer, which learned what a guided answer would be.
            if plan.negative_prompt:
                raise InvalidInput.of("negative_prompt", "Flux takes none: it draws without a second, negative answer")
            negative_prompt = None
        return dict(self._prompts.encode(plan.prompt, negative_prompt, adapters=state))

    def _from_image(self, inputs: dict[str, Any], plan: GenerationPlan, image: Image.Image) -> dict[str, Any]:
        if self.facts.family in _FLOW:
            return inputs | {"image": _fitted(image, plan), "strength": plan.strength}
        kept = {name: value for name, value in inputs.items() if name not in ("width", "height")}  # told by the image
        return kept | {"image": _fitted(image, plan), "strength": _strength(plan)}

    def _paint(self, kind: Any, plan: GenerationPlan, index: int, inputs: dict[str, Any]) -> Image.Image:
        pipeline = copy.copy(kind)  # it keeps the state of a call on itself
        scheduler = self._schedulers.make(plan.scheduler, steps=plan.steps, seed=plan.seed + index)
        vars(pipeline).update(self._relays, scheduler=scheduler)
        return _picture(pipeline(**inputs).images[0], plan)

    def _paint_other(self, plan: GenerationPlan, inputs: dict[str, Any]) -> Image.Image:
        drawn = call(self.pipeline, lambda: self.pipeline(**inputs).images[0])
        # Some of them draw sizes of their own.
        return _fitted(drawn if isinstance(drawn, Image.Image) else _picture(drawn, plan), plan)

    def _answer_whole(self, question: Question, mix: Mix) -> Image.Image:
        if self.facts.family is not ModelFamily.OTHER:
            self._rows.wear([mix])
        image: Image.Image = question.arguments[0]()
        return image


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


def _picture(pixels: np.ndarray, plan: GenerationPlan) -> Image.Image:
    if not np.isfinite(pixels).all():
        raise JobFailure(f"{plan.scheduler} in {plan.steps} steps gave numbers that are no picture.")
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def _fitted(image: Image.Image, plan: GenerationPlan) -> Image.Image:
    image = image.convert("RGB")
    size = (plan.width, plan.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _strength(plan: GenerationPlan) -> float:
    """The strength at which diffusers computes exactly `plan.denoising_steps`; it takes int(steps * strength)."""
    return min(1.0, (plan.denoising_steps + 0.5) / plan.steps)
