"""The names in an adapter's file → which module of the pipeline each tensor is for, and what part of its change."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.utils.state_dict_utils import (
    DIFFUSERS_OLD_TO_DIFFUSERS,
    DIFFUSERS_TO_PEFT,
    UNET_TO_DIFFUSERS,
    convert_state_dict,
)
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from torch import Tensor

from worker.engine.pipeline import Pipeline, denoiser_name

KOHYA = ("lora_unet_", "lora_transformer_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_")
"""How every name in a file of kohya's or LyCORIS begins."""
_PARTS = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_B.bias": "bias",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "diff_b": "bias",
}
_LYCORIS = {"alpha", "dora_scale", "diff"}
_LYCORIS |= {f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")}
_LYCORIS |= {f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
_PARTS |= {part: part for part in _LYCORIS}


@dataclass
class ModuleParts:
    """What a file says of one module: its tensors by part, and the scale of their product where the file tells it.

    `rank` is what the file's own settings say, None where they say nothing.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    scale: float | None = None
    rank: int | None = None


def parts_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], pipeline: Pipeline) -> dict[str, ModuleParts]:
    """By "<component>.<module>", in PEFT's, diffusers' or kohya's names; what is neither of those is left out.

    Raises:
        ValueError: a name, or what the file says of itself, cannot be understood.
    """
    if tensors and all(name.startswith(KOHYA) for name in tensors):
        return _kohya_parts(tensors, pipeline)
    prefixes = tuple(f"{component}." for component in pipeline._lora_loadable_modules)
    if denoiser_name(pipeline) != "unet" and not any(name.startswith(prefixes) for name in tensors):
        tensors = pipeline.lora_state_dict(dict(tensors))  # names of the original code, or of other trainers
    raw = metadata.get("lora_adapter_metadata")
    settings: dict[str, Any] | None = (json.loads(raw) or None) if raw else None
    found: dict[str, ModuleParts] = {}
    for component in pipeline._lora_loadable_modules:
        prefix = f"{component}."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        parts: dict[str, ModuleParts] = {}
        for name, tensor in _in_peft_names(own, pipeline, component).items():
            module, part = _split(name)
            if part is not None:
                parts.setdefault(module, ModuleParts()).tensors[part] = tensor
        if settings is not None and parts:
            said = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
            _apply_settings(LoraConfig(**said), parts)
        found |= {prefix + module: each for module, each in parts.items()}
    return found


def _kohya_parts(tensors: Mapping[str, Tensor], pipeline: Pipeline) -> dict[str, ModuleParts]:
    groups: dict[str, ModuleParts] = {}
    for name, tensor in tensors.items():
        module, _, key = name.partition(".")
        if key not in _PARTS:
            raise ValueError(f"It is not known what {name} is.")
        groups.setdefault(module, ModuleParts()).tensors[_PARTS[key]] = tensor
    own = _flat_names(pipeline)
    found = {own[name]: each for name, each in groups.items() if name in own}
    others = [name for name in groups if name not in own]
    if not others:
        return found
    if denoiser_name(pipeline) != "unet":
        # What is one layer in the original code is several in diffusers': the tensors themselves are cut.
        left = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] in others}
        return found | parts_of(pipeline.lora_state_dict(left), {}, pipeline)
    return found | {path: groups[name] for path, name in _converted(others, pipeline).items()}


def _flat_names(pipeline: Pipeline) -> dict[str, str]:
    """Kohya's names of the modules that are named after the pipeline's own: dots and underscores look the same."""
    te = "lora_te1_" if hasattr(pipeline, "text_encoder_2") else "lora_te_"
    prefixes = {
        "unet": "lora_unet_",
        "transformer": "lora_transformer_",
        "text_encoder": te,
        "text_encoder_2": "lora_te2_",
    }
    return {
        prefixes[component] + path.replace(".", "_"): f"{component}.{path}"
        for component in pipeline._lora_loadable_modules
        for path, _ in getattr(pipeline, component).named_modules()
    }


def _converted(names: Sequence[str], pipeline: Pipeline) -> dict[str, str]:
    """Which module each of the other names of kohya's is for, as diffusers sees it."""
    # It converts LoRA only, so it is given one with numbers in place of the tensors.
    numbered = {
        f"{name}.lora_{way}.weight": torch.tensor(number) for number, name in enumerate(names) for way in ("down", "up")
    }
    sdxl_only = {"unet_config": pipeline.unet.config} if hasattr(pipeline, "text_encoder_2") else {}
    converted, _ = pipeline.lora_state_dict(numbered, **sdxl_only)
    found = {}
    for component in pipeline._lora_loadable_modules:
        prefix = f"{component}."
        own = {name.removeprefix(prefix): number for name, number in converted.items() if name.startswith(prefix)}
        for name, number in _in_peft_names(own, pipeline, component).items():
            module, part = _split(name)
            if part == "down":
                found[prefix + module] = names[int(number)]
    return found


def _in_peft_names(tensors: Mapping[str, Tensor], pipeline: Pipeline, component: str) -> dict[str, Tensor]:
    if component == denoiser_name(pipeline):
        renamed: dict[str, Tensor] = convert_state_dict(tensors, UNET_TO_DIFFUSERS)
        return renamed
    renamed = convert_state_dict(convert_state_dict(tensors, DIFFUSERS_OLD_TO_DIFFUSERS), DIFFUSERS_TO_PEFT)
    if hasattr(getattr(pipeline, component), "text_model"):
        return renamed
    return {name.removeprefix("text_model."): tensor for name, tensor in renamed.items()}


def _split(name: str) -> tuple[str, str | None]:
    """The module and the part; a part's name has one dot or none."""
    module, _, last = name.rpartition(".")
    outer, _, before = module.rpartition(".")
    if f"{before}.{last}" in _PARTS:
        return outer, _PARTS[f"{before}.{last}"]
    return module, _PARTS.get(last)


def _apply_settings(config: LoraConfig, parts: Mapping[str, ModuleParts]) -> None:
    ranks, alphas = config.rank_pattern, config.alpha_pattern
    for module, each in parts.items():
        each.rank = ranks.get(get_pattern_key(ranks.keys(), module), config.r)
        alpha = alphas.get(get_pattern_key(alphas.keys(), module), config.lora_alpha)
        each.scale = alpha / (math.sqrt(each.rank) if config.use_rslora else each.rank)
