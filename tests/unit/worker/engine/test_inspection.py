import shutil
from pathlib import Path

import pytest

from core.domain.base_model import LoadOptions, ModelFamily
from core.domain.errors import ModelUnusable
from core.domain.generation import SchedulerName
from worker.engine.inspection import inspect_pipeline
from worker.engine.pipeline import Pipeline, load_pipeline


def test_stable_diffusion(sd: Pipeline, sd_folder: Path) -> None:
    facts = inspect_pipeline(sd, sd_folder)
    assert facts.family is ModelFamily.SD1
    assert (facts.defaults.width, facts.defaults.height) == (32, 32)
    assert facts.defaults.scheduler is SchedulerName.DDIM
    assert facts.modules["unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"] == (32, 32)
    assert facts.modules["unet.conv_in"] == (16, 4, 3, 3)
    assert any(name.startswith("text_encoder.") and name.endswith("q_proj") for name in facts.modules)
    assert not any(name.startswith("vae") for name in facts.modules)


def test_every_module_named_is_there(sdxl: Pipeline, sdxl_folder: Path) -> None:
    facts = inspect_pipeline(sdxl, sdxl_folder)
    assert facts.family is ModelFamily.SDXL
    assert facts.defaults.scheduler is SchedulerName.DPMPP_2M_KARRAS
    for name, shape in facts.modules.items():
        part, _, path = name.partition(".")
        assert tuple(getattr(sdxl, part).get_submodule(path).weight.shape) == shape
    assert any(name.startswith("text_encoder_2.") for name in facts.modules)


def test_the_width_of_the_text_tells_2_from_1(sd: Pipeline, sd_folder: Path) -> None:
    sd.unet.register_to_config(cross_attention_dim=1024)
    assert inspect_pipeline(sd, sd_folder).family is ModelFamily.SD2


@pytest.fixture
def folder(sd_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd_folder, tmp_path / "model"))


def test_a_model_may_bring_defaults_of_its_own(folder: Path) -> None:
    (folder / "lorikeet.json").write_text('{"steps": 12, "guidance_scale": 3, "scheduler": "heun"}')
    defaults = inspect_pipeline(load_pipeline(folder, LoadOptions(), device="cpu"), folder).defaults
    assert (defaults.steps, defaults.guidance_scale, defaults.scheduler) == (12, 3.0, SchedulerName.HEUN)
    assert defaults.width == 32


@pytest.mark.parametrize("text", ['{"steps": "many"}', '{"unknown": 1}', "{"])
def test_defaults_that_are_none(folder: Path, text: str) -> None:
    (folder / "lorikeet.json").write_text(text)
    with pytest.raises(ModelUnusable, match=r"lorikeet\.json"):
        inspect_pipeline(load_pipeline(folder, LoadOptions(), device="cpu"), folder)
