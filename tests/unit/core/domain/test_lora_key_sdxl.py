"""SDXL's names in the original code, against diffusers' own reading of kohya files."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)

from core.domain.base_model import ModelFamily
from core.domain.lora_key import aliases, read_key

ORIGINAL = ("input_blocks", "middle_block", "output_blocks")


@pytest.fixture(scope="module")
def modules() -> list[str]:
    """The Linears and Conv2ds of an SDXL UNet, narrow but of full depth."""
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        layers_per_block=2,
        cross_attention_dim=32,
        attention_head_dim=(2, 4, 8),
        use_linear_projection=True,
    )
    layers = (torch.nn.Linear, torch.nn.Conv2d)
    return [f"unet.{name}" for name, module in unet.named_modules() if isinstance(module, layers)]


def as_diffusers_reads(name: str) -> str:
    weights = {f"{name}.lora_{way}.weight": torch.zeros(1, 1) for way in ("down", "up")}
    mapped = _maybe_map_sgm_blocks_to_diffusers(weights, SimpleNamespace(layers_per_block=2))
    converted, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
    key = read_key(next(iter(converted)))
    assert key is not None
    return key.alias


def test_every_original_name_means_what_diffusers_takes_it_for(modules: list[str]) -> None:
    known = aliases(modules, family=ModelFamily.SDXL)
    original = {name: module for name, (module,) in known.items() if any(part in name for part in ORIGINAL)}
    assert len(original) >= len(modules) - 4, "all but the outermost modules have such a name"
    for name, module in original.items():
        assert known[as_diffusers_reads(name)] == (module,), name
