"""LoRAs of Flux in kohya's names, whose layers are several modules here, against diffusers' own reading of them."""

import io
from collections.abc import Mapping

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from safetensors.torch import load, save
from torch import Tensor

from core.domain.base_model import ModelFamily
from core.domain.errors import InvalidInput
from core.domain.lora_key import LoraForm
from core.domain.lora_key_flux import flux_aliases
from core.infra.adapter_file import CheckedAdapter, check_adapter, write_adapter

QKV = "lora_unet_double_blocks_0_img_attn_qkv"


@pytest.fixture(scope="module")
def modules() -> dict[str, tuple[int, ...]]:
    """The weights of a Flux of real width and a block of each kind, which diffusers' reading asks for."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    return {
        f"transformer.{name}": tuple(module.weight.shape)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def kohya(modules: Mapping[str, tuple[int, ...]], *, rank: int = 1, only: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, parts in flux_aliases(modules).items():
        if name.startswith(only):
            outputs, inputs = sum(modules[part][0] for part in parts), modules[parts[0]][1]
            tensors[f"{name}.lora_down.weight"] = torch.randn(rank, inputs, generator=generator)
            tensors[f"{name}.lora_up.weight"] = torch.randn(outputs, rank, generator=generator)
            tensors[f"{name}.alpha"] = torch.tensor(rank / 2)
    return tensors


def check(tensors: Mapping[str, Tensor], modules: Mapping[str, tuple[int, ...]]) -> CheckedAdapter:
    return check_adapter(io.BytesIO(save(dict(tensors))), modules=modules, family=ModelFamily.FLUX)


def test_what_is_kept_is_what_diffusers_reads(modules: Mapping[str, tuple[int, ...]]) -> None:
    tensors = kohya(modules)
    source, target = io.BytesIO(save(tensors)), io.BytesIO()
    adapter = check_adapter(source, modules=modules, family=ModelFamily.FLUX)
    assert (adapter.form, adapter.rank, adapter.alpha) == (LoraForm.KOHYA, 1, 0.5)
    write_adapter(source, target, adapter)
    kept, read = load(target.getvalue()), _convert_kohya_flux_lora_to_diffusers(dict(tensors))
    theirs = {f"transformer.{name.removeprefix('transformer.')}": tensor for name, tensor in read.items()}
    assert adapter.pairs.keys() == {name.removesuffix(".lora_A.weight") for name in theirs if ".lora_A" in name}
    # Of the last layer it passes over the alpha; kohya's own code does not.
    theirs["transformer.proj_out.lora_A.weight"] *= adapter.alpha

    def answer(tensors: Mapping[str, Tensor], module: str) -> Tensor:
        down, up = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
        return up @ (down @ torch.ones(down.shape[1]))

    for module in adapter.pairs:
        assert torch.allclose(answer(kept, module) * adapter.alpha, answer(theirs, module), rtol=1e-4), module


def test_a_layer_of_other_sizes_is_refused(modules: Mapping[str, tuple[int, ...]]) -> None:
    tensors = kohya(modules, only=QKV)
    tensors[f"{QKV}.lora_up.weight"] = tensors[f"{QKV}.lora_up.weight"][:-1].contiguous()
    with pytest.raises(InvalidInput, match=rf"{QKV}\.lora_up\.weight needs 9216 rows, it has 9215"):
        check(tensors, modules)


@pytest.mark.parametrize("missing", ["lora_up", "lora_down"])
def test_half_a_layer_is_refused(modules: Mapping[str, tuple[int, ...]], missing: str) -> None:
    tensors = kohya(modules, only=QKV)
    del tensors[f"{QKV}.{missing}.weight"]
    with pytest.raises(InvalidInput, match="has only one of its two matrices"):
        check(tensors, modules)


def test_a_module_under_two_names_is_refused(modules: Mapping[str, tuple[int, ...]]) -> None:
    twice = kohya(modules, only=QKV)
    for way, shape in (("down", (1, 3072)), ("up", (3072, 1))):
        twice[f"lora_transformer_transformer_blocks_0_attn_to_k.lora_{way}.weight"] = torch.zeros(shape)
    with pytest.raises(
        InvalidInput, match=r"changes transformer\.transformer_blocks\.0\.attn\.to_k twice, under two names"
    ):
        check(twice, modules)
