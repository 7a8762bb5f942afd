"""Random adapters of every kind for the tiny pipelines, in files as their trainers write them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from worker.engine.pipeline import Pipeline

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
RESNET = ("conv1", "conv2", "conv_shortcut", "time_emb_proj")
OUTSIDE = ("conv", "conv_in", "conv_out", "linear_1", "linear_2")
ALL_UNET = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", *RESNET, *OUTSIDE)
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def targets_of(pipeline: Pipeline, unet: tuple[str, ...] = ALL_UNET) -> dict[str, tuple[str, ...]]:
    """The modules of each part of a pipeline that have such names."""
    parts = {part: TEXT for part in ("text_encoder", "text_encoder_2") if hasattr(pipeline, part)}
    return {"unet": unet} | parts


def tune(
    pipeline: Pipeline,
    targets: Mapping[str, tuple[str, ...]],
    *,
    seed: int,
    kind: type[LoraConfig] | type[LoHaConfig] | type[LoKrConfig] = LoraConfig,
    **options: Any,
) -> dict[str, Tensor]:
    """Put a random adapter named `tuned` on a pipeline; its weights in PEFT's names."""
    torch.manual_seed(seed)
    random = {"init_lora_weights": False} if kind is LoraConfig else {"init_weights": False}
    weights: dict[str, Tensor] = {}
    for part, names in targets.items():
        model = getattr(pipeline, part)
        config = kind(target_modules=list(names), **random, **options)
        inject_adapter_in_model(config, model, adapter_name="tuned")
        for name, parameter in model.named_parameters():
            if ".tuned" in name and "magnitude" in name:
                parameter.data *= 1 + 0.1 * torch.rand_like(parameter)
        state = get_peft_model_state_dict(model, adapter_name="tuned")
        weights |= {f"{part}.{name}": tensor.detach().clone() for name, tensor in state.items()}
    return weights


def save_peft(file: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None) -> Path:
    """PEFT's names, with the settings that diffusers looks for, by part."""
    metadata = {"format": "pt"} | ({"lora_adapter_metadata": json.dumps(settings)} if settings else {})
    save_file(dict(weights), file, metadata=metadata)
    return file


def save_diffusers(file: Path, weights: Mapping[str, Tensor]) -> Path:
    """Diffusers' own names, which it has for attention only."""
    save_file(convert_state_dict_to_diffusers(dict(weights)), file)
    return file


def save_kohya(file: Path, weights: Mapping[str, Tensor], *, alphas: Mapping[str, float]) -> Path:
    """Names of kohya-ss/sd-scripts and LyCORIS; the alphas are by PEFT's names of the modules."""
    first = "lora_te1" if any(name.startswith("text_encoder_2.") for name in weights) else "lora_te"
    prefixes = {"unet": "lora_unet", "text_encoder": f"{first}_text_model", "text_encoder_2": "lora_te2_text_model"}
    parts = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    parts["lora_magnitude_vector"] = "dora_scale"
    renamed = {}
    for name, tensor in weights.items():
        long = next((part for part in parts if name.endswith(f".{part}")), None)
        module, part = (name.removesuffix(f".{long}"), parts[long]) if long else name.rsplit(".", 1)
        component, path = module.split(".", 1)
        flat = f"{prefixes[component]}_{path.removeprefix('text_model.').replace('.', '_')}"
        renamed[f"{flat}.{part}"] = tensor.reshape(-1, 1) if part == "dora_scale" and tensor.dim() == 1 else tensor
        if module in alphas:
            renamed[f"{flat}.alpha"] = torch.tensor(alphas[module])
    save_file(renamed, file)
    return file


def modules_of(weights: Mapping[str, Tensor]) -> list[str]:
    """The modules that weights in PEFT's names are for."""
    cut = {name.split(".lora_")[0].split(".hada_")[0].split(".lokr_")[0] for name in weights}
    return sorted(cut)
