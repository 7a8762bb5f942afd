"""A base model on its device: what makes the images of a plan, and what answers while they are made."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from core.domain.base_model import ModelFacts
from core.domain.errors import JobFailure
from core.domain.generation import GenerationPlan
from worker.engine.adapter_mix import Mix
from worker.engine.device_copy import Download
from worker.engine.picture import Relay
from worker.engine.pipeline import Pipeline
from worker.engine.question import WHOLE, Question

Drawn: TypeAlias = Callable[[], Image.Image]
"""Brings an image from the device that draws it, and waits for it: for the thread that asked. See `drawn`."""
Paint: TypeAlias = Callable[[], Drawn]
"""Makes one image, in a Picture."""
_WHOLE = Relay(None, WHOLE)


class LoadedModel(ABC):
    """Everything that is kept between the requests of one model. For one thread only, under inference mode.

    Args:
        pipeline: Draws text to image, and is on its device.
        facts: What was found out about it.
    """

    def __init__(self, pipeline: Pipeline, facts: ModelFacts) -> None:
        self.pipeline, self.facts = pipeline, facts
        self.device: torch.device = pipeline._execution_device  # found by a walk over the modules: asked for once

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
        watch = _Watch(plan, on_step)
        inputs = [
            {
                "width": plan.width,
                "height": plan.height,
                "num_inference_steps": plan.steps,
                "guidance_scale": plan.guidance_scale,
                "callback_on_step_end": watch.of_image(index),
                "callback_on_step_end_tensor_inputs": [],
                # On the CPU, so that a seed means the same noise on every device.
                "generator": torch.Generator("cpu").manual_seed(plan.seed + index),
            }
            for index in range(plan.num_images)
        ]
        return self._paints(plan, mix=mix, init_image=init_image, inputs=inputs)

    @abstractmethod
    def _paints(
        self, plan: GenerationPlan, *, mix: Mix, init_image: Image.Image | None, inputs: Sequence[dict[str, Any]]
    ) -> list[Paint]:
        """As `begin`; `inputs` are those of the pipeline's call for each image, but for what to draw."""

    @abstractmethod
    def answer(self, questions: Sequence[Question], wears: Sequence[Mix]) -> list[Any]:
        """One call of a network for questions of one shape, of pictures that wear these adapters."""

    @abstractmethod
    def forget_adapters(self) -> None:
        """Keep no copy of what was worn."""


def in_one_go(paint: Paint) -> Paint:
    """One that asks a single question: to be painted itself, while no other picture is."""
    return partial(_WHOLE, paint)


def answer_whole(question: Question) -> Drawn:
    """The image that was asked for in one go."""
    image: Drawn = question.arguments[0]()
    return image


def drawn(pixels: torch.Tensor, plan: GenerationPlan) -> Drawn:
    """Pixels (height, width, 3) from 0 to 1, as the image of a plan. Bringing it raises JobFailure: not finite."""
    download = Download(pixels)

    def bring() -> Image.Image:
        found = download.fetch().float().numpy()
        if not np.isfinite(found).all():
            raise JobFailure(f"{plan.scheduler} in {plan.steps} steps gave numbers that are no picture.")
        return Image.fromarray((found * 255).round().astype(np.uint8))

    return bring


def fitted(image: Image.Image, plan: GenerationPlan) -> Image.Image:
    """The image in the size of a plan."""
    image = image.convert("RGB")
    size = (plan.width, plan.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


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
