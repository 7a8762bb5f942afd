"""What a CUDA device is needed for. Skipped without one; alone: `pytest tests/gpu --confcutdir=tests/gpu`."""

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
from tests.tiny_pipeline import save_flux, save_sd, save_sd3, save_sdxl
from worker.engine.image_engine import ImageEngine
from worker.engine.pipeline import silence

EXACT = LoadOptions(dtype="float32", device="cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def _exact_numbers() -> None:
    silence()
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random tiny model of each family."""
    place = tmp_path_factory.mktemp("models")
    savers: dict[str, Callable[[Path], Path]] = {
        "sd": save_sd,
        "sdxl": save_sdxl,
        "sd3": save_sd3,
        "flux": save_flux,
    }
    return {family: save(place / family) for family, save in savers.items()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a worker whose outside systems are never asked for."""
    return settings_alone(tmp_path, device="cuda")


@pytest.fixture
def engine(settings: Settings) -> Iterator[ImageEngine]:
    engine = ImageEngine(settings, ObjectStore(settings))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, ModelHandle]:
    return {family: ModelHandle(uuid4(), family, str(folder), None, EXACT) for family, folder in folders.items()}


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., GenerationPlan]:
    """A small plan; `changes` by field."""

    def make(**changes: Any) -> GenerationPlan:
        fields: dict[str, Any] = {
            "prompt": "a large red star on a blue background",
            "negative_prompt": "",
            "model": "tiny",
            "width": 32,
            "height": 32,
            "steps": 6,
            "guidance_scale": 3.0,
            "seed": 7,
            "num_images": 1,
            "scheduler": SchedulerName.EULER,
            "output_format": OutputFormat.PNG,
        }
        return GenerationPlan(**(fields | changes))

    return make
