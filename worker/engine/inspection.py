"""What a loaded base model is: its family, what it recommends, which of its modules an adapter may change."""

from inspect import signature
from pathlib import Path
from typing import Any

from diffusers import FluxPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from pydantic import ValidationError
from torch import nn

from core.domain.base_model import TRAINABLE, ModelFacts, ModelFamily
from core.domain.errors import ModelUnusable
from core.domain.generation import GenerationDefaults, SchedulerName
from worker.engine.model_layout import DEFAULTS
from worker.engine.pipeline import Pipeline
from worker.engine.scheduler import name_of

_FAMILIES = {
    StableDiffusionXLPipeline: ModelFamily.SDXL,
    StableDiffusion3Pipeline: ModelFamily.SD3,
    FluxPipeline: ModelFamily.FLUX,
}
_SD2_WIDTH = 1024
"""Width of OpenCLIP ViT-H, the text encoder of Stable Diffusion 2; that of 1 is 768 wide."""


def inspect_pipeline(pipeline: Pipeline, folder: Path) -> ModelFacts:
    """Describe a pipeline that no adapter was ever loaded into.

    Raises:
        ModelUnusable: the folder's own defaults are not valid.
    """
    family = family_of(pipeline)
    modules = {} if family is ModelFamily.OTHER else _modules(pipeline)
    return ModelFacts(family=family, defaults=_defaults(pipeline, family, folder), modules=modules)


def family_of(pipeline: Pipeline) -> ModelFamily:
    """The family, told by the kind of pipeline; that of a first or second Stable Diffusion by its text encoder."""
    if type(pipeline) is StableDiffusionPipeline:
        width = pipeline.unet.config.cross_attention_dim
        return ModelFamily.SD2 if width == _SD2_WIDTH else ModelFamily.SD1
    return _FAMILIES.get(type(pipeline), ModelFamily.OTHER)


def _defaults(pipeline: Pipeline, family: ModelFamily, folder: Path) -> GenerationDefaults:
    measured: dict[str, Any] = _size(pipeline)
    if family not in TRAINABLE:
        # What is common knowledge of the older families holds for no other: what diffusers recommends.
        asks = signature(pipeline.__call__).parameters
        for field, name in (("steps", "num_inference_steps"), ("guidance_scale", "guidance_scale")):
            if name in asks and isinstance(asks[name].default, int | float):
                measured[field] = asks[name].default
        measured["scheduler"] = name_of(pipeline.scheduler)
    elif pipeline.scheduler.config.get("rescale_betas_zero_snr"):
        measured["scheduler"] = SchedulerName.DDIM  # exact from an infinite sigma on
    file = folder / DEFAULTS
    try:
        own = GenerationDefaults.model_validate_json(file.read_text()) if file.is_file() else GenerationDefaults()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ModelUnusable(f"The model's {DEFAULTS} is not valid: {field}: {problem['msg']}") from error
    return GenerationDefaults(**(measured | own.model_dump(exclude_unset=True)))


def _size(pipeline: Pipeline) -> dict[str, int]:
    """Width and height in pixels; nothing where the pipeline does not tell."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    size = getattr(pipeline, "default_sample_size", None) or getattr(
        getattr(denoiser, "config", None), "sample_size", None
    )
    if size is None:
        return {}
    height, width = (size, size) if isinstance(size, int) else size
    factor = getattr(pipeline, "vae_scale_factor", 1)
    return {"width": width * factor, "height": height * factor}


def _modules(pipeline: Pipeline) -> dict[str, tuple[int, ...]]:
    return {
        f"{part}.{name}": tuple(module.weight.shape)
        for part in pipeline._lora_loadable_modules
        for name, module in getattr(pipeline, part).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
