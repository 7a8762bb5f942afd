import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.domain.base_model import LoadOptions
from core.domain.errors import AdapterUnusable
from tests.tiny_adapter import ATTENTION, save_peft, tune
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, load_pipeline


def read(file: Path, pipeline: Pipeline) -> AdapterWeights:
    return read_adapter(file, pipeline, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def change_all(file: Path, change: Callable[[str, Tensor], tuple[str, Tensor]]) -> None:
    save_file(dict(change(name, tensor) for name, tensor in load_file(file).items()), file)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing matches": (
        lambda file: change_all(file, lambda name, tensor: (name.replace("unet.", "unet.elsewhere."), tensor)),
        "does not fit this model: the model has no unet.elsewhere.down_blocks",
    ),
    "another component": (
        lambda file: change_all(file, lambda name, tensor: (name.replace("unet.", "transformer."), tensor)),
        "has nothing that fits this model",
    ),
    "no lora": (
        lambda file: change_all(file, lambda name, tensor: (name.replace("lora", "lure"), tensor)),
        "has nothing that fits this model",
    ),
    "other shapes": (
        lambda file: change_all(file, lambda name, tensor: (name, torch.cat([tensor, tensor], dim=1))),
        r"does not fit this model: unet\.down_blocks.* is \(32, 32\), which down \(2, 64\), up \(32, 4\)",
    ),
    "whole numbers": (
        lambda file: change_all(file, lambda name, tensor: (name, tensor.to(torch.int32))),
        "does not fit this model: .* as I32",
    ),
    "half of it": (
        lambda file: save_file({name: each for name, each in load_file(file).items() if "down" in name}, file),
        "does not fit this model: unet.* lacks its up",
    ),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "does not fit this model"),
    "text": (lambda file: file.write_bytes(b"hello"), "does not fit this model"),
    "empty": (lambda file: file.write_bytes(b""), "does not fit this model"),
    "gone": (Path.unlink, "does not fit this model"),
    "unknown": (lambda file: save_file({"lora_unet_conv_in.oft_diag": torch.ones(3)}, file), "oft_diag"),
    "a norm": (
        lambda file: save_file({f"unet.conv_norm_out.lora_{way}.weight": torch.ones(16, 16) for way in "AB"}, file),
        "conv_norm_out is a GroupNorm",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_does_not_fit_is_refused(sd: Pipeline, sd_folder: Path, tmp_path: Path, how: str) -> None:
    file = save_lora(tmp_path / "adapter.safetensors", sd_folder)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    spoil, words = BROKEN[how]
    spoil(file)
    with pytest.raises(AdapterUnusable, match=f"sha256:{digest} .*{words}"):
        read_adapter(file, sd, sha256=digest)


def test_an_adapter_of_the_other_family_is_refused(sd: Pipeline, sdxl_folder: Path, tmp_path: Path) -> None:
    file = save_lora(tmp_path / "adapter.safetensors", sdxl_folder)
    with pytest.raises(AdapterUnusable, match="does not fit"):
        read(file, sd)


def test_what_the_model_has_not_is_passed_over(sd: Pipeline, sd_folder: Path, tmp_path: Path) -> None:
    file = save_lora(tmp_path / "adapter.safetensors", sd_folder)
    whole = read(file, sd)
    extra = {"unet.elsewhere.lora.down.weight": torch.ones(2, 3), "unet.elsewhere.lora.up.weight": torch.ones(3, 2)}
    save_file(load_file(file) | extra, file)
    assert read(file, sd).layers.keys() == whole.layers.keys()


def test_settings_that_belie_the_tensors_are_refused(sd: Pipeline, sd_folder: Path, tmp_path: Path) -> None:
    maker = load_pipeline(sd_folder, LoadOptions(), device="cpu")
    weights = tune(maker, {"unet": ATTENTION}, seed=1, r=4)
    settings = {"unet.r": 8, "unet.lora_alpha": 8, "unet.target_modules": list(ATTENTION)}
    file = save_peft(tmp_path / "adapter.safetensors", weights, settings)
    with pytest.raises(RuntimeError, match="size mismatch"):
        maker.load_lora_weights(str(file), adapter_name="a", use_safetensors=True)
    with pytest.raises(AdapterUnusable, match="does not fit"):
        read(file, sd)
