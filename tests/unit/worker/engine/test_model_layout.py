import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.domain.errors import ModelUnusable
from worker.engine.model_layout import check_layout, variant_of


@pytest.fixture
def folder(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "model"))


def change_index(folder: Path, **changes: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_whole_model_passes(folder: Path, sdxl_folder: Path) -> None:
    assert not check_layout(folder).is_sdxl
    assert set(check_layout(folder).components) == {"unet", "vae", "text_encoder"}
    assert check_layout(sdxl_folder).is_sdxl
    assert "text_encoder_2" in check_layout(sdxl_folder).components


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "StableDiffusionPipeline"])
def test_the_image_to_image_pipeline_is_the_same_model(folder: Path, name: str) -> None:
    change_index(folder, _class_name=name)
    assert not check_layout(folder).is_sdxl


def test_without_an_index_it_is_no_model(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    with pytest.raises(ModelUnusable, match=r"has no model_index\.json"):
        check_layout(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"a"'])
def test_an_index_that_is_none(folder: Path, text: str) -> None:
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ModelUnusable, match=r"model_index\.json"):
        check_layout(folder)


@pytest.mark.parametrize("name", ["FluxPipeline", "../evil", None, ["a"]])
def test_other_pipelines_are_refused(folder: Path, name: Any) -> None:
    change_index(folder, _class_name=name)
    with pytest.raises(ModelUnusable, match="and XL are supported"):
        check_layout(folder)


@pytest.mark.parametrize("entry", [["evil", "Evil"], ["diffusers", "UNet3DConditionModel"], None, "unet"])
def test_parts_of_other_kinds_are_refused(folder: Path, entry: Any) -> None:
    change_index(folder, unet=entry)
    with pytest.raises(ModelUnusable, match="as its unet"):
        check_layout(folder)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "model.ckpt", "text_encoder/deep/er.pt", "a.PTH"])
def test_pickles_are_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelUnusable, match=name.replace(".", r"\.")):
        check_layout(folder)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_every_folder_is_needed(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    with pytest.raises(ModelUnusable, match=f"no folder {name}"):
        check_layout(folder)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
def test_weights_are_needed(folder: Path, name: str) -> None:
    for file in (folder / name).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelUnusable, match=rf"{name} has no \.safetensors"):
        check_layout(folder)


def test_the_variant_is_told_by_the_names(folder: Path) -> None:
    assert variant_of(folder, "unet") is None
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".fp16.safetensors"))
    assert variant_of(folder, "unet") == "fp16"
