"""A model of a family: the calls of its networks are shared by the pictures in the making."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from core.domain.base_model import ModelFacts, ModelFamily
from core.domain.errors import InvalidInput
from core.domain.generation import GenerationPlan
from worker.engine.adapter_row import AdapterRows, Mix, text_state
from worker.engine.loaded_model import LoadedModel, Paint, answer_whole, fitted, in_one_go, to_picture
from worker.engine.picture import Relay
from worker.engine.pipeline import Pipeline, denoiser_name, image_to_image
from worker.engine.prompt import PromptEncoder
from worker.engine.question import WHOLE, Question, merge, split
from worker.engine.scheduler import SchedulerMaker

_FLOW = (ModelFamily.SD3, ModelFamily.FLUX)


class FamilyModel(LoadedModel):
    """Each picture is diffusers' own call of a pipeline, in which relays stand for the networks.

    A pipeline whose parts accelerate moves while it is called is asked for whole pictures, one after the other.
    """

    def __init__(self, pipeline: Pipeline, facts: ModelFacts) -> None:
        super().__init__(pipeline, facts)
        self._image_to_image = image_to_image(pipeline)
        self._schedulers = SchedulerMaker(pipeline.scheduler.config, is_flow=facts.family in _FLOW)
        self._prompts = PromptEncoder(pipeline, self.device)
        self._rows = AdapterRows(pipeline)
        name = denoiser_name(pipeline)
        denoiser = getattr(pipeline, name)
        self._networks: dict[str, Callable[..., Any]] = {name: denoiser, "vae.decode": pipeline.vae.decode}
        self._relays: dict[str, Relay] = {}
        if not hasattr(denoiser, "_hf_hook"):
            self._relays[name] = Relay(denoiser, name)
            self._relays["vae"] = Relay(pipeline.vae, "vae", methods=("decode",), ignored=("generator",))

    def _paints(
        self, plan: GenerationPlan, *, mix: Mix, init_image: Image.Image | None, inputs: Sequence[dict[str, Any]]
    ) -> list[Paint]:
        prompt = self._encode(plan, mix)
        pipeline: Any = self.pipeline if init_image is None else self._image_to_image
        paints: list[Paint] = []
        for index, own in enumerate(inputs):
            given = own | prompt
            if init_image is not None:
                given = self._from_image(given, plan, init_image)
            paint = partial(self._paint, pipeline, plan, index, given)
            paints.append(paint if self._relays else in_one_go(paint))
        return paints

    def answer(self, questions: Sequence[Question], wears: Sequence[Mix]) -> list[Any]:
        """See LoadedModel."""
        if questions[0].network == WHOLE:
            return [self._answer_whole(question, mix) for question, mix in zip(questions, wears, strict=True)]
        self._rows.wear([mix for question, mix in zip(questions, wears, strict=True) for _ in range(question.rows)])
        arguments, options = merge(questions)
        return split(self._networks[questions[0].network](*arguments, **options), questions)

    def forget_adapters(self) -> None:
        """See LoadedModel."""
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
            return inputs | {"image": fitted(image, plan), "strength": plan.strength}
        kept = {name: value for name, value in inputs.items() if name not in ("width", "height")}  # told by the image
        return kept | {"image": fitted(image, plan), "strength": _strength(plan)}

    def _paint(self, kind: Any, plan: GenerationPlan, index: int, inputs: dict[str, Any]) -> Image.Image:
        pipeline = copy.copy(kind)  # it keeps the state of a call on itself
        scheduler = self._schedulers.make(plan.scheduler, steps=plan.steps, seed=plan.seed + index)
        vars(pipeline).update(self._relays, scheduler=scheduler)
        return to_picture(pipeline(**inputs).images[0], plan)

    def _answer_whole(self, question: Question, mix: Mix) -> Image.Image:
        self._rows.wear([mix])
        return answer_whole(question)


def _strength(plan: GenerationPlan) -> float:
    """The strength at which diffusers computes exactly `plan.denoising_steps`; it takes int(steps * strength)."""
    return min(1.0, (plan.denoising_steps + 0.5) / plan.steps)
