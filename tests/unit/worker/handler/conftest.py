"""A worker's runtime on the real servers, and a base model row for a random tiny model."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import torch

from core.infra.database import Database
from core.infra.settings import Settings
from core.infra.table import StableDiffusion
from tests.job_bench import JobBench, bench, queue, tenant_id
from tests.tiny_pipeline import save_sd
from worker.engine.pipeline import silence
from worker.runtime import Runtime, build_runtime

__all__ = ["JobBench", "bench", "queue", "tenant_id"]


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    silence()
    torch.set_num_threads(1)
    return save_sd(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = build_runtime(settings.model_copy(update={"device": "cpu"}))
    yield runtime
    runtime.engine.close()
    runtime.close()


@pytest.fixture
def model_id(database: Database, tenant_id: UUID, sd_folder: Path) -> UUID:
    with database.transaction() as session:
        model = StableDiffusion(tenant_id=tenant_id, name="tiny", source=str(sd_folder), options={}, defaults={})
        session.add(model)
        session.flush()
        return model.id
