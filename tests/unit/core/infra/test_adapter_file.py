"""LoRA files from outside."""

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from core.domain.base_model import ModelFamily
from core.domain.errors import InvalidInput
from core.domain.lora_key import LoraForm
from core.infra.adapter_file import CheckedAdapter, check_adapter, write_adapter
from core.infra.safetensors_file import SafetensorsHeader, read_header
from tests.api_bench import MODULES, Tensors, encode, floats, lora

TO_Q = next(name for name in MODULES if name.endswith("attn1.to_q"))
Q_PROJ = next(name for name in MODULES if name.startswith("text_encoder"))


def check(tensors: Tensors, metadata: Mapping[str, str] | None = None, *, alpha: float | None = None) -> CheckedAdapter:
    file = io.BytesIO(encode(tensors, metadata))
    return check_adapter(file, modules=MODULES, family=ModelFamily.SD1, alpha=alpha)


def rewrite(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> tuple[bytes, SafetensorsHeader]:
    source, target = io.BytesIO(encode(tensors, metadata)), io.BytesIO()
    adapter = check_adapter(source, modules=MODULES, family=ModelFamily.SD1)
    write_adapter(source, target, adapter)
    return target.getvalue(), read_header(target)


def kohya(alpha: float = 2.0) -> dict[str, Any]:
    names = {
        "lora_unet_" + TO_Q.removeprefix("unet.").replace(".", "_"): MODULES[TO_Q],
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": MODULES[Q_PROJ],
    }
    tensors: dict[str, Any] = {}
    for name, (outputs, inputs) in names.items():
        tensors[f"{name}.lora_down.weight"] = floats(4, inputs)
        tensors[f"{name}.lora_up.weight"] = floats(outputs, 4, seed=1)
        tensors[f"{name}.alpha"] = ("F32", (), struct.pack("<f", alpha))
    return tensors


def test_a_lora_that_fits_is_taken() -> None:
    adapter = check(lora(rank=4))
    assert (adapter.form, adapter.rank, adapter.alpha) == (LoraForm.DIFFUSERS, 4, 4.0)
    assert not adapter.trains_text_encoder
    assert set(adapter.pairs) == {name for name in MODULES if "attn1" in name}


def test_convolutions_fit_with_their_kernels() -> None:
    assert check(lora({"unet.conv_in": MODULES["unet.conv_in"]})).rank == 4


def test_kohyas_alpha_and_text_encoder_are_understood() -> None:
    adapter = check(kohya(alpha=2.0))
    assert (adapter.form, adapter.rank, adapter.alpha) == (LoraForm.KOHYA, 4, 2.0)
    assert set(adapter.pairs) == {TO_Q, Q_PROJ}
    assert adapter.trains_text_encoder


def test_pefts_own_names_mean_the_unet_and_the_caller_tells_alpha() -> None:
    tensors = {f"base_model.model.{name.removeprefix('unet.')}": value for name, value in lora().items()}
    adapter = check(tensors, alpha=8.0)
    assert (adapter.form, adapter.alpha) == (LoraForm.PEFT, 8.0)


def test_alpha_comes_from_the_files_own_text() -> None:
    config: dict[str, Any] = {"unet.lora_alpha": 2, "unet.alpha_pattern": {TO_Q.removeprefix("unet."): 6}}
    adapter = check(lora(), {"lora_adapter_metadata": json.dumps(config)}, alpha=8.0)
    assert (adapter.alpha, adapter.alpha_of(TO_Q)) == (2.0, 6.0)
    rooted = check(lora(rank=4), {"lora_adapter_metadata": '{"unet.lora_alpha": 2, "unet.use_rslora": true}'})
    assert rooted.alpha == 4.0  # alpha / sqrt(rank) = 4 / rank


@pytest.mark.parametrize("text", ["{", "[]", '{"unet.lora_alpha": "x"}', '{"unet.alpha_pattern": 5}', "[" * 99_999])
def test_text_that_makes_no_sense_is_passed_over(text: str) -> None:
    assert check(lora(), {"lora_adapter_metadata": text}).alpha == 4.0


def test_what_is_kept_is_named_as_diffusers_does_and_says_nothing_else() -> None:
    hostile = {"lora_adapter_metadata": '{"unet.target_modules": "(a+)+$", "unet.lora_alpha": 2}', "ss_comment": "x"}
    content, header = rewrite(lora(), hostile)
    assert {tensor.name for tensor in header.tensors} == set(lora())
    assert set(header.metadata) == {"format", "lora_adapter_metadata"}
    config = json.loads(header.metadata["lora_adapter_metadata"])
    assert set(config["unet.target_modules"]) == {name[5:] for name in MODULES if "attn1" in name}
    assert (config["unet.r"], config["unet.lora_alpha"], config["unet.alpha_pattern"]) == (4, 2.0, {})
    assert rewrite(lora(), hostile)[0] == content, "the same file gives the same bytes"


def test_kohyas_names_and_alphas_are_translated() -> None:
    _, header = rewrite(kohya(alpha=2.0))
    assert {tensor.name for tensor in header.tensors} == {
        f"{module}.lora_{matrix}.weight" for module in (TO_Q, Q_PROJ) for matrix in "AB"
    }
    config = json.loads(header.metadata["lora_adapter_metadata"])
    assert (config["unet.lora_alpha"], config["text_encoder.lora_alpha"]) == (2.0, 2.0)


def test_different_ranks_and_alphas_are_kept_by_module() -> None:
    tensors = (
        dict(lora(rank=4))
        | dict(lora({TO_Q: MODULES[TO_Q]}, rank=2))
        | {f"{TO_Q}.alpha": ("F32", (1,), struct.pack("<f", 1.0))}
    )
    _, header = rewrite(tensors)
    config = json.loads(header.metadata["lora_adapter_metadata"])
    path = TO_Q.removeprefix("unet.")
    assert (config["unet.r"], config["unet.rank_pattern"]) == (4, {f"^{path}": 2})
    assert (config["unet.lora_alpha"], config["unet.alpha_pattern"]) == (4.0, {f"^{path}": 1.0})


def changed(**changes: Any) -> Tensors:
    return {f"{TO_Q}.lora_A.weight": floats(4, 32), f"{TO_Q}.lora_B.weight": floats(32, 4)} | {
        f"{TO_Q}.lora_{name}.weight": value for name, value in changes.items()
    }


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (changed(A=floats(4, 31)), "needs shape"),
        (changed(A=floats(32)), "needs shape"),
        (changed(A=floats(0, 32), B=floats(32, 0)), "rank 0"),
        (changed(A=("F32", (), b"\0" * 4)), "rank 0"),
        (changed(A=floats(257, 32), B=floats(32, 257)), "rank 257"),
        (changed(B=floats(32, 5)), "needs shape"),
        (changed(A=("F32", (4, 32), struct.pack("<f", float("nan")) * 128)), "infinite"),
        (changed(A=("F32", (4, 32), struct.pack("<f", float("inf")) * 128)), "infinite"),
        ({f"{TO_Q}.lora_A.weight": floats(4, 32)}, "only one of its two"),
        ({f"{TO_Q}.alpha": ("F32", (), struct.pack("<f", 1.0))}, "only one of its two"),
        (dict(changed()) | {f"{TO_Q}.alpha": ("F32", (), struct.pack("<f", -1.0))}, "alpha"),
        (dict(changed()) | {f"{TO_Q}.alpha": ("F32", (), struct.pack("<f", float("nan")))}, "alpha"),
        (dict(changed()) | {f"{TO_Q}.alpha": floats(2)}, "single number"),
        (dict(changed()) | {f"{TO_Q}.lora_A.default.weight": floats(4, 32)}, "two tensors"),
        ({f"{TO_Q.replace('.0.', '.9.', 1)}.lora_A.weight": floats(4, 32)}, "this base model lacks"),
        ({"lora_unet_a.hada_w1_a": floats(4, 4)}, "LoHa"),
        ({f"{TO_Q}.lora_magnitude_vector": floats(4)}, "DoRA"),
        ({"model.diffusion_model.input_blocks.0.0.weight": floats(4)}, "not a LoRA"),
        (kohya() | dict(lora({"unet.conv_in": MODULES["unet.conv_in"]})), "mixes"),
    ],
)
def test_what_does_not_fit_is_refused(tensors: Tensors, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        check(tensors)


def test_dora_in_the_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="DoRA"):
        check(lora(), {"lora_adapter_metadata": '{"unet.use_dora": true}'})
