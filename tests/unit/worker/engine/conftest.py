"""Random tiny models, once for all tests of the engine; one CPU thread."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.generation import GenerationPlan, OutputFormat, SchedulerName
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.engine_bench import settings_alone
from tests.tiny_pipeline import save_flux, save_lcm, save_sd, save_sd3, save_sdxl
from worker.engine.image_engine import ImageEngine
from worker.engine.pipeline import Pipeline, load_pipeline, silence


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_alone() -> None:
    silence()
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("models") / "sd3")


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_flux(tmp_path_factory.mktemp("models") / "flux")


@pytest.fixture(scope="session")
def lcm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lcm(tmp_path_factory.mktemp("models") / "lcm")


@pytest.fixture
def sd(sd_folder: Path) -> Pipeline:
    return load_pipeline(sd_folder, LoadOptions(), device="cpu")


@pytest.fixture
def sdxl(sdxl_folder: Path) -> Pipeline:
    return load_pipeline(sdxl_folder, LoadOptions(), device="cpu")


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """Settings of a worker whose outside systems are never asked for."""
    return settings_alone(tmp_path, device="cpu")


@pytest.fixture
def engine(alone: Settings) -> Iterator[ImageEngine]:
    engine = ImageEngine(alone, ObjectStore(alone))
    yield engine
    engine.close()


def handle_of(folder: Path) -> ModelHandle:
    return ModelHandle(uuid4(), "tiny", str(folder), None, LoadOptions())


@pytest.fixture(scope="session")
def sd_model(sd_folder: Path) -> ModelHandle:
    return handle_of(sd_folder)


@pytest.fixture(scope="session")
def sdxl_model(sdxl_folder: Path) -> ModelHandle:
    return handle_of(sdxl_folder)


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., GenerationPlan]:
    """A small plan; `changes` by field."""

    def make(**changes: Any) -> GenerationPlan:
        fields: dict[str, Any] = {
            "prompt": "a large red star on a blue background",
            "negative_prompt": "green",
            "model": "tiny",
            "width": 32,
            "height": 32,
            "steps": 3,
            "guidance_scale": 3.0,
            "seed": 7,
            "num_images": 1,
            "scheduler": SchedulerName.DDIM,
            "output_format": OutputFormat.PNG,
        }
        return GenerationPlan(**(fields | changes))

    return make
