import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.domain.errors import ModelUnusable
from worker.engine.model_layout import check_layout, is_wanted, variant_of


@pytest.fixture
def folder(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "model"))


def change_index(folder: Path, **changes: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_whole_model_passes(folder: Path, sdxl_folder: Path) -> None:
    assert set(check_layout(folder).components) == {"unet", "vae", "text_encoder"}
    assert check_layout(sdxl_folder).pipeline == "StableDiffusionXLPipeline"
    assert "text_encoder_2" in check_layout(sdxl_folder).components


def test_the_parts_of_transformers(sd3_folder: Path, flux_folder: Path) -> None:
    sd3, flux = check_layout(sd3_folder), check_layout(flux_folder)
    assert set(sd3.components) == {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}
    assert {"tokenizer_3", "scheduler"} < set(sd3.folders)
    assert flux.components["text_encoder_2"] == ("transformers", "T5EncoderModel")
    assert "tokenizer_3" not in flux.folders


def test_stable_diffusion_3_may_do_without_t5(sd3_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd3_folder, tmp_path / "model"))
    change_index(folder, text_encoder_3=[None, None], tokenizer_3=[None, None])
    for name in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / name)
    layout = check_layout(folder)
    assert layout.absent == ("text_encoder_3", "tokenizer_3")
    assert "tokenizer_3" not in layout.folders
    change_index(folder, text_encoder_2=[None, None])
    with pytest.raises(ModelUnusable, match="as its text_encoder_2"):
        check_layout(folder)


def test_any_other_text_to_image_pipeline_says_its_own_parts(lcm_folder: Path) -> None:
    layout = check_layout(lcm_folder)
    assert not layout.is_of_family
    assert set(layout.components) == {"unet", "vae", "text_encoder"}
    assert set(layout.folders) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert "safety_checker" in layout.absent


@pytest.mark.parametrize(
    "entry", [["evil", "Evil"], ["../evil", "Evil"], ["diffusers", "utils"], ["transformers", "Unheard"]]
)
def test_parts_that_no_library_has_are_refused(lcm_folder: Path, tmp_path: Path, entry: list[str]) -> None:
    folder = Path(shutil.copytree(lcm_folder, tmp_path / "model"))
    change_index(folder, scheduler=entry)
    with pytest.raises(ModelUnusable, match="as its scheduler"):
        check_layout(folder)
    change_index(folder, scheduler=["diffusers", "LCMScheduler"], **{"../elsewhere": ["diffusers", "AutoencoderKL"]})
    assert "../elsewhere" not in check_layout(folder).folders


@pytest.mark.parametrize("part", ["scheduler", "tokenizer"])
def test_the_parts_of_a_family_without_weights_are_the_libraries_too(folder: Path, part: str) -> None:
    change_index(folder, **{part: ["peft", "AutoPeftModel"]})
    with pytest.raises(ModelUnusable, match=f"as its {part}; diffusers and transformers lack that"):
        check_layout(folder)
    change_index(folder, **{part: ["transformers", "CLIPTextModel"]})
    with pytest.raises(ModelUnusable, match=f"as its {part}, which should have no weights"):
        check_layout(folder)


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "StableDiffusionPipeline"])
def test_the_image_to_image_pipeline_is_the_same_model(folder: Path, name: str) -> None:
    change_index(folder, _class_name=name)
    assert check_layout(folder).pipeline == "StableDiffusionPipeline"


def test_without_an_index_it_is_no_model(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    with pytest.raises(ModelUnusable, match=r"has no model_index\.json"):
        check_layout(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'"a"', b"\xff\xfe\xfa", b"[" * 100_000])
def test_an_index_that_is_none(folder: Path, content: bytes) -> None:
    (folder / "model_index.json").write_bytes(content)
    with pytest.raises(ModelUnusable, match=r"model_index\.json"):
        check_layout(folder)


@pytest.mark.parametrize(
    "name", ["StableDiffusionInpaintPipeline", "WanPipeline", "Evil", "../evil", None, ["pipeline", "Evil"]]
)
def test_other_pipelines_are_refused(folder: Path, name: Any) -> None:
    change_index(folder, _class_name=name)
    with pytest.raises(ModelUnusable, match=r"names the pipeline .*, which is no"):
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


SHARDS = "model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.fp16.json"


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("shard", ["weights.txt", "../vae/a.safetensors", "/a.safetensors", "a.safetensors/b.txt", 7])
def test_a_list_of_shards_leads_to_no_other_weights(folder: Path, name: str, shard: Any) -> None:
    (folder / "text_encoder" / name).write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": shard}}))
    with pytest.raises(ModelUnusable, match=rf"text_encoder/{name} names {shard!r}; weights are \.safetensors files"):
        check_layout(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": ["a.safetensors"]}'])
def test_a_list_of_shards_that_is_none(folder: Path, content: str) -> None:
    (folder / "unet" / SHARDS[0]).write_text(content)
    with pytest.raises(ModelUnusable, match=f"unet/{SHARDS[0]}"):
        check_layout(folder)


@pytest.mark.parametrize(
    ("name", "shard"), [(SHARDS[0], "model-1-of-1.safetensors"), ("pytorch_model.bin.index.json", "pytorch_model.bin")]
)
def test_shards_that_lie_beside_their_list(folder: Path, name: str, shard: str) -> None:
    (folder / "text_encoder" / name).write_text(json.dumps({"weight_map": {"a": shard}}))
    assert "text_encoder" in check_layout(folder).components


def test_an_adapter_in_a_part_is_refused_and_not_fetched(folder: Path) -> None:
    (folder / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(ModelUnusable, match=r"text_encoder/adapter_config\.json would lead to another model"):
        check_layout(folder)
    assert not is_wanted("text_encoder/adapter_config.json", ["text_encoder"])
    assert is_wanted("text_encoder/config.json", ["text_encoder"])


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
