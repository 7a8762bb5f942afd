"""The names of a LoRA file's tensors, in every form that is about, and the module that each belongs to.

diffusers: `unet.down_blocks.0.….attn1.to_q.lora_A.weight`, PEFT's names under a part's prefix, `transformer.` for
Stable Diffusion 3 and Flux; in older files `….attn1.processor.to_q_lora.down.weight` and `….lora.down.weight`.
PEFT: `base_model.model.down_blocks.0.….attn1.to_q.lora_A.weight`, the denoiser alone.
kohya: `lora_unet_down_blocks_0_….lora_down.weight` with an `.alpha` to each module; for SDXL under the names of the
original UNet, `lora_unet_input_blocks_4_1_…`, and for Flux of the original transformer, whose layers are several of
ours; `lora_transformer_…` as OneTrainer has it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from core.domain.base_model import ModelFamily
from core.domain.lora_key_flux import flux_aliases


class LoraForm(StrEnum):
    DIFFUSERS = "diffusers"
    PEFT = "peft"
    KOHYA = "kohya"


class LoraRole(StrEnum):
    """`down` maps the module's input to the rank, `up` the rank to its output; `alpha` scales both by alpha / rank."""

    DOWN = "down"
    UP = "up"
    ALPHA = "alpha"


@dataclass(frozen=True)
class LoraKey:
    """What a tensor is for. `alias` is the module's name in the file, as `aliases` knows it."""

    alias: str
    role: LoraRole
    form: LoraForm


_DENOISERS = ("unet.", "transformer.")
_ROLE = {"A": LoraRole.DOWN, "B": LoraRole.UP, "down": LoraRole.DOWN, "up": LoraRole.UP}
_KOHYA = re.compile(r"(lora_(?:unet|transformer|te|te1|te2)_\w+)\.(?:lora_(down|up)\.weight|(alpha))")
_PEFT = re.compile(r"base_model\.model\.([\w.]+?)\.lora_(A|B)(?:\.default)?\.weight")
_PART = r"((?:unet|transformer|text_encoder|text_encoder_2)\.[\w.]+?)"
_DIFFUSERS = re.compile(
    _PART + r"(?:\.lora_(A|B)(?:\.default)?\.weight|\.(?:lora|lora_linear_layer)\.(down|up)\.weight)"
)
_PROCESSOR = re.compile(_PART + r"(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight")
_ALPHA = re.compile(_PART + r"\.alpha")
_OTHER_METHODS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon with a middle matrix",
    "oft_": "OFT",
    "string_to_param": "a textual inversion",
    "emb_params": "a textual inversion",
}


def read_key(key: str) -> LoraKey | None:
    """What a tensor's name says; None where it is of no known form."""
    if match := _KOHYA.fullmatch(key):
        name, direction, alpha = match.groups()
        alias = re.sub(r"^(lora_te[12]?_)text_model_", r"\1", name)
        return LoraKey(alias, LoraRole.ALPHA if alpha else _ROLE[direction], LoraForm.KOHYA)
    if match := _PEFT.fullmatch(key):
        return LoraKey(f"denoiser.{match[1]}", _ROLE[match[2]], LoraForm.PEFT)
    if match := _PROCESSOR.fullmatch(key):
        return LoraKey(_plain(match[1]) + _projection(match[1], match[2]), _ROLE[match[3]], LoraForm.DIFFUSERS)
    if match := _DIFFUSERS.fullmatch(key):
        return LoraKey(_plain(match[1]), _ROLE[match[2] or match[3]], LoraForm.DIFFUSERS)
    if match := _ALPHA.fullmatch(key):
        return LoraKey(_plain(match[1]), LoraRole.ALPHA, LoraForm.DIFFUSERS)
    return None


def is_of_denoiser(module: str) -> bool:
    """Whether a module belongs to the network that removes the noise, not to one that reads the prompt."""
    return module.startswith(_DENOISERS)


def other_method(keys: Iterable[str]) -> str | None:
    """What a file holds instead of a plain LoRA, where its tensors' names give it away."""
    return next((name for key in keys for mark, name in _OTHER_METHODS.items() if mark in key), None)


def _plain(path: str) -> str:
    # Older libraries put the text encoder's layers under `text_model`, newer ones do not.
    return re.sub(r"^(text_encoder(?:_2)?\.)text_model\.", r"\1", path)


def _projection(path: str, name: str) -> str:
    if is_of_denoiser(path):
        return ".to_out.0" if name == "out" else f".to_{name}"
    return f".{name}_proj"


def aliases(modules: Iterable[str], *, family: ModelFamily) -> Mapping[str, tuple[str, ...]]:
    """Every name under which a file may mean modules → their own names.

    Mostly it is one; of several the outputs lie one after the other. `modules` are named as in `ModelFacts.modules`.
    """
    names = list(modules)
    known: dict[str, str] = {}
    for module in names:
        part, path = _plain(module).split(".", 1)
        flat = path.replace(".", "_")
        known[f"{part}.{path}"] = module
        if is_of_denoiser(module):
            known[f"denoiser.{path}"] = known[f"lora_{part}_{flat}"] = module
        elif part == "text_encoder_2":
            known[f"lora_te2_{flat}"] = module
        else:
            known[f"lora_te_{flat}"] = known[f"lora_te1_{flat}"] = module
    if family is ModelFamily.SDXL:
        known |= {f"lora_unet_{name}": module for module in names if (name := _original_name(module)) is not None}
    found: dict[str, tuple[str, ...]] = {name: (module,) for name, module in known.items()}
    return found | dict(flux_aliases(names)) if family is ModelFamily.FLUX else found


_OUTER = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding.linear_1": "time_embed_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "add_embedding.linear_2": "label_emb_0_2",
}
_RESNET = {
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_STRIDE = 3
"""Layers of one block of SDXL's UNet, its down- or upsampler counted with the input blocks."""


def _original_name(module: str) -> str | None:
    """The name of an SDXL UNet's module in the original code, flattened as kohya does.

    The blocks are counted as in diffusers' `_maybe_map_sgm_blocks_to_diffusers`.
    """
    path = module.removeprefix("unet.")
    if path == module:
        return None
    if path in _OUTER:
        return _OUTER[path]
    match = _BLOCK.fullmatch(path)
    if match is None:
        return None
    side, block, kind, layer, rest = match.groups()
    if kind == "resnets":
        rest = _RESNET.get(rest, rest)
    elif kind == "downsamplers":
        rest = "op"
    return f"{_place(side, int(block or 0), kind, int(layer))}_{rest.replace('.', '_')}"


def _place(side: str | None, block: int, kind: str, layer: int) -> str:
    if side is None:
        return f"middle_block_{1 if kind == 'attentions' else 2 * layer}"
    if kind == "downsamplers":
        return f"input_blocks_{_STRIDE * (block + 1)}_0"
    if kind == "upsamplers":
        return f"output_blocks_{_STRIDE * block + 2}_2"
    place = _STRIDE * block + layer
    index = 1 if kind == "attentions" else 0
    return f"input_blocks_{1 + place}_{index}" if side == "down" else f"output_blocks_{place}_{index}"
