import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain.base_model import LoadOptions
from core.domain.errors import ModelUnusable
from worker.engine.pipeline import Pipeline, image_to_image, is_out_of_memory, load_pipeline, pick_dtype

WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}


@pytest.fixture
def folder(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "model"))


def load(folder: Path, **options: object) -> Pipeline:
    return load_pipeline(folder, LoadOptions(**options), device="cpu")


@pytest.mark.parametrize("part", WEIGHTS)
def test_cut_weights_name_their_part(folder: Path, part: str) -> None:
    file = folder / WEIGHTS[part]
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelUnusable, match=f"The model's {part} cannot be loaded"):
        load(folder)


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_missing_weight_is_not_made_up(folder: Path, part: str) -> None:
    weights = load_file(folder / WEIGHTS[part])
    lost = sorted(weights)[3]
    del weights[lost]
    save_file(weights, folder / WEIGHTS[part], metadata={"format": "pt"})
    with pytest.raises(ModelUnusable, match=rf"The model's {part} lacks 1 of its weights.*"):
        load(folder)


def test_a_weight_of_another_shape(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS["unet"])
    weights["conv_in.weight"] = torch.zeros(1, 1, 3, 3)
    save_file(weights, folder / WEIGHTS["unet"], metadata={"format": "pt"})
    with pytest.raises(ModelUnusable, match="The model's unet"):
        load(folder)


@pytest.mark.parametrize("file", ["tokenizer/tokenizer.json", "scheduler/scheduler_config.json", "unet/config.json"])
def test_a_broken_configuration(folder: Path, file: str) -> None:
    (folder / file).write_text("{")
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        load(folder)


def test_a_unet_that_takes_more_than_latents(folder: Path) -> None:
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": 3}))
    with pytest.raises(ModelUnusable):
        load(folder)


def test_weights_of_the_fp16_variant(folder: Path) -> None:
    for name in WEIGHTS.values():
        file = folder / name
        file.rename(file.with_suffix(".fp16.safetensors"))
    load(folder)


def test_options_are_followed(folder: Path) -> None:
    pipeline = load(folder, dtype="bfloat16", attention_slicing=True, vae_tiling=True, cpu_offload="model")
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.bfloat16}
    assert pipeline.vae.use_tiling
    assert not pipeline.unet.training


def test_auto_is_single_precision_on_a_cpu() -> None:
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ModelUnusable, match="asks for the device cuda"):
        load(folder, device="cuda")


def test_no_safety_checker_no_gradients_nothing_on_the_terminal(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = load(folder)
    assert pipeline.safety_checker is None
    assert not any(weight.requires_grad for weight in pipeline.unet.parameters())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_image_to_image_shares_every_part(request: pytest.FixtureRequest, family: str) -> None:
    pipeline = request.getfixturevalue(family)
    twin = image_to_image(pipeline)
    assert twin.unet is pipeline.unet
    assert twin.text_encoder is pipeline.text_encoder


def test_a_failed_allocation_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(failure.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
