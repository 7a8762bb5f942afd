"""Is a folder a Stable Diffusion model in the diffusers layout, with safe weights only?"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.domain.errors import ModelUnusable

INDEX = "model_index.json"
DEFAULTS = "lorikeet.json"
"""Optional: what the model's maker recommends, as the JSON of a GenerationDefaults, any part of it."""

_SD = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
_SDXL = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
_WEIGHTED = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}
_PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"}


@dataclass(frozen=True)
class ModelLayout:
    """What `model_index.json` says. `components` have weights: name → class; `folders` are all that is needed."""

    is_sdxl: bool
    components: dict[str, str]
    folders: tuple[str, ...]


def read_index(text: str) -> ModelLayout:
    """Read a `model_index.json`.

    Raises:
        ModelUnusable: it is not that of a Stable Diffusion pipeline made of the usual parts.
    """
    try:
        index = json.loads(text)
    except ValueError as error:
        raise ModelUnusable(f"{INDEX} is not JSON: {error}") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    if name not in (*_SD, *_SDXL):
        raise ModelUnusable(f"{INDEX} names the pipeline {name}; Stable Diffusion 1.x, 2.x and XL are supported.")
    is_sdxl = name in _SDXL
    wanted = [part for part in _WEIGHTED if is_sdxl or part != "text_encoder_2"]
    components = {part: _class_of(index, part) for part in wanted}
    tokenizers = ("tokenizer", "tokenizer_2") if is_sdxl else ("tokenizer",)
    return ModelLayout(is_sdxl, components, (*components, *tokenizers, "scheduler"))


def _class_of(index: dict[str, Any], part: str) -> str:
    entry = index.get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if name not in _WEIGHTED[part]:
        raise ModelUnusable(f"{INDEX} names {entry} as its {part}; {' or '.join(_WEIGHTED[part])} is supported.")
    return str(name)


def refuse_pickles(names: Iterable[str]) -> None:
    """Refuse files that run code when they are read.

    Raises:
        ModelUnusable: one of `names` is such a file.
    """
    for name in sorted(names):
        if Path(name).suffix.lower() in _PICKLES:
            raise ModelUnusable(
                f"{name} may run code when it is read; only .safetensors weights are accepted. Convert it or remove it."
            )


def check_layout(folder: Path) -> ModelLayout:
    """See whether everything is there, without loading anything.

    Raises:
        ModelUnusable: not a model in the diffusers layout; the message names what is wrong.
    """
    index = folder / INDEX
    if not index.is_file():
        raise ModelUnusable(f"{folder} has no {INDEX}; a model is a folder in the diffusers layout.")
    layout = read_index(index.read_text())
    refuse_pickles(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for name in layout.folders:
        if not (folder / name).is_dir():
            raise ModelUnusable(f"The model has no folder {name}.")
    for name in layout.components:
        if not any((folder / name).glob("*.safetensors")):
            raise ModelUnusable(f"The model's {name} has no .safetensors weights.")
    return layout


def variant_of(folder: Path, component: str) -> str | None:
    """`fp16` where a component's weights are stored under that name only, else None."""
    names = [path.name for path in (folder / component).glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None
