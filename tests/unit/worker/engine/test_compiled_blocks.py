"""Blocks that were compiled know of every adapter that comes and goes."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from core.domain.base_model import LoadOptions
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_mix import Mix, Portion
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_row import AdapterRows
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, compile_blocks, load_pipeline

SWAPS, ROWS = 50, (2, 3, 4)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    torch._dynamo.reset()
    known = torch._dynamo.config
    with torch.inference_mode(), known.patch(recompile_limit=known.recompile_limit, suppress_errors=False):
        yield
    torch._dynamo.reset()


@pytest.fixture
def compiled(sd_folder: Path) -> Pipeline:
    """The kernels are not compiled here, which is a matter of minutes; what is known of the calls is the same."""
    pipeline = load_pipeline(sd_folder, LoadOptions(), device="cpu")
    assert compile_blocks(pipeline.unet, backend="eager")
    return pipeline


def adapters(sd_folder: Path, pipeline: Pipeline, folder: Path) -> list[AdapterWeights]:
    files = [save_lora(folder / f"{seed}.safetensors", sd_folder, seed=seed, parts=("unet",)) for seed in range(6)]
    return [read_adapter(file, pipeline, sha256=file.stem) for file in files]


def test_fifty_swaps_compile_nothing_and_give_what_plain_blocks_give(
    compiled: Pipeline, sd: Pipeline, sd_folder: Path, tmp_path: Path
) -> None:
    known = adapters(sd_folder, compiled, tmp_path)
    ours, plain = AdapterRows(compiled, is_compiled=True), AdapterRows(sd)
    chance = random.Random(0)

    def draw(mixes: list[Mix]) -> None:
        inputs = (torch.randn(len(mixes), 4, 16, 16), torch.full((len(mixes),), 500.0), torch.randn(len(mixes), 5, 32))
        for rows in (ours, plain):
            rows.wear(mixes)
        found, expected = (each.unet(*inputs, return_dict=False)[0] for each in (compiled, sd))
        assert (found - expected).norm() <= 1e-5 * expected.norm()

    def some(rows: int) -> list[Mix]:
        return [(Portion(each, chance.uniform(-1, 1), 1.0),) for each in chance.sample(known, rows)]

    for rows in ROWS:
        draw([()] * rows)
        draw(some(rows))
    seen = counters["stats"]["unique_graphs"]
    assert seen > 0
    for _ in range(SWAPS):
        draw(some(chance.choice(ROWS)))
        draw([()] * chance.choice(ROWS))
    assert counters["stats"]["unique_graphs"] == seen


def test_blocks_that_cannot_be_compiled_run_plain(
    sd: Pipeline, sd_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def no_compiler(*_: object) -> None:
        tried.append(0)
        raise RuntimeError("Failed to find C compiler.")

    pipeline = load_pipeline(sd_folder, LoadOptions(), device="cpu")
    assert compile_blocks(pipeline.unet, backend=no_compiler)
    inputs = (torch.randn(2, 4, 16, 16), torch.full((2,), 500.0), torch.randn(2, 5, 32))
    found, expected = (each.unet(*inputs, return_dict=False)[0] for each in (pipeline, sd))
    assert found.equal(expected)
    assert "Failed to find C compiler." in caplog.text
    known = len(tried)
    pipeline.unet(*inputs, return_dict=False)
    assert len(tried) == known


def test_a_denoiser_without_repeated_blocks_stays_as_it_is(sd3_folder: Path) -> None:
    assert not compile_blocks(load_pipeline(sd3_folder, LoadOptions(), device="cpu").transformer)
