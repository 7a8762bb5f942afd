import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from core.domain.adapter import AdapterManifest
from core.domain.base_model import LoadOptions, ModelFamily, ModelHandle
from core.domain.generation import GenerationDefaults
from core.domain.training import TrainingReport
from tests.training_bench import make_learner, make_pipeline, make_plan
from worker.training.checkpoint import digest_file
from worker.training.export import ADAPTER, KOHYA, MANIFEST, export_adapter
from worker.training.learner import Learner
from worker.training.provenance import Provenance
from worker.training.sample import draw_samples

ATTENTION: dict[str, Any] = {}
WIDE: dict[str, Any] = {
    "alpha": 3.0,
    "train_text_encoder": True,
    "target_modules": ("to_q", "to_out.0", "conv1", "conv_shortcut", "ff.net.0.proj", "proj_in", "time_emb_proj"),
}


def make_trained(*, sdxl: bool = False, **changes: Any) -> Learner:
    learner = make_learner(make_plan(**changes), sdxl=sdxl)
    generator = torch.Generator().manual_seed(1)
    for parameter in learner.parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    return learner


def make_provenance(family: ModelFamily, **changes: Any) -> Provenance:
    report = TrainingReport(steps=4, first_loss=1.0, last_loss=0.5, resumed_from_step=0, execution_seconds=1.0)
    return Provenance(
        plan=make_plan(**changes),
        report=report,
        model=ModelHandle(UUID(int=2), "random", "/nowhere", None, LoadOptions()),
        family=family,
        prediction_type="v_prediction",
        picture_count=5,
    )


def draw(pipe: Any) -> torch.Tensor:
    images = pipe(
        "a red star",
        num_inference_steps=2,
        guidance_scale=3.0,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    return torch.from_numpy(images)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, Euler
@pytest.mark.parametrize("file_name", [ADAPTER, KOHYA])
@pytest.mark.parametrize(
    ("sdxl", "changes"), [(False, ATTENTION), (False, WIDE), (True, ATTENTION), (True, {**WIDE, "rank": 3})]
)
def test_both_files_give_the_trained_pictures_to_the_last_bit(
    tmp_path: Path, file_name: str, sdxl: bool, changes: dict[str, Any]
) -> None:
    learner = make_trained(sdxl=sdxl, **changes)
    export_adapter(learner, make_provenance(ModelFamily.SDXL if sdxl else ModelFamily.SD1, **changes), folder=tmp_path)
    fresh = make_pipeline(sdxl=sdxl)
    without = draw(fresh)
    fresh.load_lora_weights(tmp_path / file_name, adapter_name="it", use_safetensors=True)
    assert set(fresh.get_list_adapters()) == set(learner.modules)
    trained = draw(learner.pipe)
    assert torch.equal(draw(fresh), trained)
    assert not torch.equal(without, trained)


def test_the_header_says_what_tools_ask_for(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"trigger_word": "zorp", "description": "zorps, ünd so"}
    export_adapter(make_trained(**changes), make_provenance(ModelFamily.SD1, **changes), folder=tmp_path)
    for name in (ADAPTER, KOHYA):
        with safe_open(tmp_path / name, framework="pt") as file:
            said = file.metadata()
        assert (said["ss_network_dim"], said["ss_network_alpha"]) == ("2", "2.0")
        assert (said["ss_network_module"], said["ss_base_model_version"]) == ("networks.lora", "sd_v1")
        assert json.loads(said["ss_tag_frequency"]) == {"it": {"zorp": 5}}
        assert said["modelspec.architecture"] == "stable-diffusion-v1/lora"
        assert said["modelspec.trigger_phrase"] == "zorp"
        assert said["modelspec.description"] == "zorps, ünd so"
        assert said["modelspec.prediction_type"] == "v"
        assert ("lora_adapter_metadata" in said) == (name == ADAPTER)


def test_the_manifest_begins_with_name_description_model_and_names_the_file(tmp_path: Path) -> None:
    manifest = export_adapter(make_trained(), make_provenance(ModelFamily.SD1), folder=tmp_path)
    written = json.loads((tmp_path / MANIFEST).read_text())
    assert list(written)[:3] == ["name", "description", "model"]
    assert AdapterManifest.model_validate(written) == manifest
    assert manifest.sha256 == digest_file(tmp_path / ADAPTER)
    assert manifest.size_bytes == (tmp_path / ADAPTER).stat().st_size
    assert manifest.target_modules == ("to_q", "to_k", "to_v", "to_out.0")
    assert manifest.versions.keys() >= {"torch", "diffusers", "peft"}


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        export_adapter(make_trained(**WIDE), make_provenance(ModelFamily.SD1, **WIDE), folder=tmp_path / name)
    for name in (ADAPTER, KOHYA, MANIFEST):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_samples_are_the_pipelines_own_pictures_and_repeat() -> None:
    learner = make_trained()
    defaults = GenerationDefaults(steps=2, guidance_scale=3.0)
    sample = draw_samples(learner, ("a red star",), seed=0, resolution=32, defaults=defaults)
    again = draw_samples(learner, ("a red star",), seed=0, resolution=32, defaults=defaults)
    (expected,) = learner.pipe.image_processor.numpy_to_pil(draw(learner.pipe).numpy())
    assert [image.tobytes() for image in sample] == [image.tobytes() for image in again] == [expected.tobytes()]
    assert isinstance(sample[0], Image.Image)


def test_samples_are_drawn_in_half_precision_too() -> None:
    learner = make_trained(mixed_precision="bf16")
    (image,) = draw_samples(learner, ("x",), seed=0, resolution=32, defaults=GenerationDefaults(steps=2))
    assert image.size == (32, 32)
