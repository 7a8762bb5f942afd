"""What is replayed answers what the network answers, through every exchange of what is worn."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.gpu.conftest import EXACT
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_mix import Mix, Portion
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_row import AdapterRows
from worker.engine.call_graph import CallGraphs
from worker.engine.pipeline import load_pipeline

pytestmark = pytest.mark.gpu
SWAPS = 50


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_fifty_exchanges_of_what_is_worn(folders: dict[str, Path], tmp_path: Path) -> None:
    pipeline, plain = (load_pipeline(folders["sd"], EXACT) for _ in range(2))
    files = [
        save_lora(tmp_path / f"{seed}.safetensors", folders["sd"], seed=seed, rank=(2, 4, 4)[seed % 3])
        for seed in range(9)
    ]
    known = [read_adapter(file, pipeline, sha256=file.stem, pin=True).to(torch.device("cuda", 0)) for file in files]
    rows, oracle = AdapterRows(pipeline), AdapterRows(plain)
    graphs = CallGraphs(pipeline.unet, rows)
    chance = random.Random(0)

    def some() -> Mix:
        worn = chance.sample(known, chance.choice((0, 1, 1, 1, 2)))
        return tuple(Portion(each, chance.choice((1.0, 0.5)), 1.0) for each in worn)

    for _ in range(SWAPS):
        mixes = [some() for _ in range(4)]
        for _ in range(3):
            inputs = (
                torch.randn(4, 4, 16, 16, device="cuda"),
                torch.full((4,), 500.0, device="cuda"),
                torch.randn(4, 5, 32, device="cuda"),
            )
            [found] = graphs(mixes, inputs, {"return_dict": False})
            oracle.wear(mixes)
            [expected] = plain.unet(*inputs, return_dict=False)
            assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert graphs.replays > SWAPS
