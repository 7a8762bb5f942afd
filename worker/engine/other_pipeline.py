"""A pipeline of none of our families: what a plan may ask of it, as the signature of its call says."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from core.domain.errors import InvalidInput, JobFailure, LorikeetError, ModelUnusable
from core.domain.generation import GenerationPlan
from worker.engine.pipeline import is_out_of_memory


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
