"""A model of a family: the calls of its networks are shared by the pictures in the making."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from PIL import Image

from core.domain.base_model import LoadOptions, ModelFacts, ModelFamily
from core.domain.errors import InvalidInput
from core.domain.generation import GenerationPlan
from worker.engine.adapter_mix import Mix, text_state
from worker.engine.adapter_row import AdapterRows
from worker.engine.call_graph import CallGraphs
from worker.engine.loaded_model import Drawn, LoadedModel, Paint, answer_whole, drawn, fitted, in_one_go
from worker.engine.picture import Relay
from worker.engine.pipeline import Pipeline, attention_by, compile_blocks, denoiser_name, image_to_image
from worker.engine.prompt import PromptEncoder
from worker.engine.question import WHOLE, Question, merge, split
from worker.engine.scheduler import SchedulerMaker

_FLOW = (ModelFamily.SD3, ModelFamily.FLUX)


class FamilyModel(LoadedModel):
    """Each picture is diffusers' own call of a pipeline, in which relays stand for the networks.

    A pipeline whose parts accelerate moves while it is called is asked for whole pictures, one after the other.
    """

    def __init__(self, pipeline: Pipeline, facts: ModelFacts, options: LoadOptions = LoadOptions()) -> None:  # noqa: B008  # never changed
        super().__init__(pipeline, facts)
        self._options = options
        self._image_to_image = image_to_image(pipeline)
        self._schedulers = SchedulerMaker(pipeline.scheduler.config, is_flow=facts.family in _FLOW)
        self._prompts = PromptEncoder(pipeline, self.device)
        name = denoiser_name(pipeline)
        denoiser = getattr(pipeline, name)
        is_cuda = self.device.type == "cuda"
        self._rows = AdapterRows(pipeline, is_compiled=is_cuda and options.compile and compile_blocks(denoiser))
        self._networks: dict[str, Callable[..., Any]] = {name: denoiser, "vae.decode": pipeline.vae.decode}
        self._relays: dict[str, Relay] = {}
        self._graphs: dict[str, CallGraphs] = {}
        if not hasattr(denoiser, "_hf_hook"):
            self._relays[name] = Relay(denoiser, name)
            self._relays["vae"] = Relay(pipeline.vae, "vae", methods=("decode",), ignored=("generator",))
            if is_cuda and options.cuda_graphs:
                self._graphs[name] = CallGraphs(denoiser, self._rows)

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
        network = questions[0].network
        dressed = [mix for question, mix in zip(questions, wears, strict=True) for _ in range(question.rows)]
        arguments, options = merge(questions)
        with attention_by(self._options.attention):
            if network in self._graphs:
                return split(self._graphs[network](dressed, arguments, options), questions)
            self._rows.wear(dressed)
            return split(self._networks[network](*arguments, **options), questions)

    def forget_adapters(self) -> None:
        """See LoadedModel."""
        self._rows.forget()
        for graphs in self._graphs.values():
            graphs.forget()

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

    def _paint(self, kind: Any, plan: GenerationPlan, index: int, inputs: dict[str, Any]) -> Drawn:
        pipeline = copy.copy(kind)  # it keeps the state of a call on itself
        scheduler = self._schedulers.make(plan.scheduler, steps=plan.steps, seed=plan.seed + index)
        scheduler.set_timesteps = _on_host(scheduler.set_timesteps)
        vars(pipeline).update(self._relays, scheduler=scheduler)
        pixels = pipeline(**inputs, output_type="pt").images[0]
        return drawn(pixels.permute(1, 2, 0), plan)

    def _answer_whole(self, question: Question, mix: Mix) -> Drawn:
        self._rows.wear([mix])
        return answer_whole(question)


def _on_host(set_timesteps: Callable[..., None]) -> Callable[..., None]:
    """The same, with times that stay on the host: to read one from the device is to wait for it, at every step."""

    @wraps(set_timesteps)
    def set_on_host(*arguments: Any, device: Any = None, **options: Any) -> None:  # noqa: ARG001  # the pipeline's
        set_timesteps(*arguments, **options)

    return set_on_host


def _strength(plan: GenerationPlan) -> float:
    """The strength at which diffusers computes exactly `plan.denoising_steps`; it takes int(steps * strength)."""
    return min(1.0, (plan.denoising_steps + 0.5) / plan.steps)
