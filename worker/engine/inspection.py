"""What a loaded base model is: its family, what it recommends, which of its modules an adapter may change."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from core.domain.base_model import ModelFacts, ModelFamily
from core.domain.errors import ModelUnusable
from core.domain.generation import GenerationDefaults, SchedulerName
from worker.engine.model_layout import DEFAULTS
from worker.engine.pipeline import Pipeline

_SD2_WIDTH = 1024
"""Width of OpenCLIP ViT-H, the text encoder of Stable Diffusion 2; that of 1 is 768 wide."""


def inspect_pipeline(pipeline: Pipeline, folder: Path) -> ModelFacts:
    """Describe a pipeline that no adapter was ever loaded into.

    Raises:
        ModelUnusable: the folder's own defaults are not valid.
    """
    return ModelFacts(family=family_of(pipeline), defaults=_defaults(pipeline, folder), modules=_modules(pipeline))


def family_of(pipeline: Pipeline) -> ModelFamily:
    """The family, told by the text encoders."""
    if hasattr(pipeline, "text_encoder_2"):
        return ModelFamily.SDXL
    width = pipeline.unet.config.cross_attention_dim
    return ModelFamily.SD2 if width == _SD2_WIDTH else ModelFamily.SD1


def _defaults(pipeline: Pipeline, folder: Path) -> GenerationDefaults:
    size = pipeline.unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else (size or (64, 64))
    measured: dict[str, Any] = {
        "width": width * pipeline.vae_scale_factor,
        "height": height * pipeline.vae_scale_factor,
    }
    if pipeline.scheduler.config.get("rescale_betas_zero_snr"):
        measured["scheduler"] = SchedulerName.DDIM  # exact from an infinite sigma on
    file = folder / DEFAULTS
    try:
        own = GenerationDefaults.model_validate_json(file.read_text()) if file.is_file() else GenerationDefaults()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ModelUnusable(f"The model's {DEFAULTS} is not valid: {field}: {problem['msg']}") from error
    return GenerationDefaults(**(measured | own.model_dump(exclude_unset=True)))


def _modules(pipeline: Pipeline) -> dict[str, tuple[int, ...]]:
    parts = [part for part in ("unet", "text_encoder", "text_encoder_2") if hasattr(pipeline, part)]
    return {
        f"{part}.{name}": tuple(module.weight.shape)
        for part in parts
        for name, module in getattr(pipeline, part).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
