"""A model of none of our families: what a plan may ask of it is what the signature of its call says."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from PIL import Image

from core.domain.errors import InvalidInput, JobFailure, LorikeetError, ModelUnusable
from core.domain.generation import GenerationPlan
from worker.engine.adapter_mix import Mix
from worker.engine.loaded_model import Drawn, LoadedModel, Paint, answer_whole, drawn, fitted, in_one_go
from worker.engine.pipeline import is_out_of_memory
from worker.engine.question import Question


class OtherModel(LoadedModel):
    """Draws whole pictures, one after the other, by diffusers' own call; adapters are not for it."""

    def _paints(
        self,
        plan: GenerationPlan,
        *,
        mix: Mix,  # noqa: ARG002  # a plan with adapters is refused
        init_image: Image.Image | None,  # noqa: ARG002  # and one with an image
        inputs: Sequence[dict[str, Any]],
    ) -> list[Paint]:
        return [
            in_one_go(partial(self._paint, plan, inputs_for(self.pipeline, plan, each | {"output_type": "np"})))
            for each in inputs
        ]

    def answer(self, questions: Sequence[Question], wears: Sequence[Mix]) -> list[Any]:  # noqa: ARG002
        """See LoadedModel."""
        return [answer_whole(question) for question in questions]

    def forget_adapters(self) -> None:
        """There are none."""

    def _paint(self, plan: GenerationPlan, inputs: dict[str, Any]) -> Drawn:
        image = call(self.pipeline, lambda: self.pipeline(**inputs).images[0])
        # Some of them draw sizes of their own.
        return lambda: fitted(image if isinstance(image, Image.Image) else drawn(torch.from_numpy(image), plan)(), plan)


def inputs_for(pipeline: Any, plan: GenerationPlan, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `wanted` inputs that the pipeline takes, and the prompts. Others it does as it always does.

    Raises:
        InvalidInput: the plan asks for something that it cannot do.
        ModelUnusable: it needs more than a plan says.
    """
    name, takes = type(pipeline).__name__, signature(pipeline.__call__).parameters
    for field, is_asked in (("init_image", plan.strength is not None), ("adapters", bool(plan.adapters))):
        if is_asked:
            raise InvalidInput.of(field, f"{name} draws from a prompt alone")
    if plan.negative_prompt and "negative_prompt" not in takes:
        raise InvalidInput.of("negative_prompt", f"{name} takes none")
    given = {**wanted, "prompt": plan.prompt} | (
        {"negative_prompt": plan.negative_prompt} if plan.negative_prompt else {}
    )
    needed = {each.name for each in takes.values() if each.default is Parameter.empty and _is_plain(each)}
    if missing := needed - given.keys():
        raise ModelUnusable(f"{name} needs {', '.join(sorted(missing))}, which no request for a picture has.")
    return {key: value for key, value in given.items() if key in takes}


def call(pipeline: Any, draw: Callable[[], Any]) -> Any:
    """What `draw` says, with an error that tells whose it is: nobody here knows what such a pipeline cannot bear.

    Raises:
        JobFailure: the pipeline failed.
    """
    try:
        return draw()
    except Exception as error:
        if isinstance(error, LorikeetError) or is_out_of_memory(error):
            raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise JobFailure(f"{type(pipeline).__name__} failed: {reason}") from error


def _is_plain(parameter: Parameter) -> bool:
    return parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
