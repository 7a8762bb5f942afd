"""What is worn is exchanged in place: the rows then are what they are in an outfit made for them."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.domain.base_model import LoadOptions
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_mix import Mix, Portion
from worker.engine.adapter_outfit import Outfit, form_of
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_row import AdapterRows
from worker.engine.adapter_stack import RANK_STEP, LowRankStack
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, load_pipeline

EXCHANGES = 20


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def draw(pipeline: Pipeline, rows: int) -> Tensor:
    torch.manual_seed(0)
    inputs = torch.randn(rows, 4, 4, 4), torch.full((rows,), 500.0), torch.randn(rows, 5, 32)
    answer: Tensor = pipeline.unet(*inputs, return_dict=False)[0]
    return answer


def adapters(folder: Path, place: Path, pipeline: Pipeline, ranks: Sequence[int]) -> list[AdapterWeights]:
    files = [save_lora(place / f"{seed}.safetensors", folder, seed=seed, rank=rank) for seed, rank in enumerate(ranks)]
    return [read_adapter(file, pipeline, sha256=file.stem) for file in files]


@pytest.mark.parametrize("ranks", [(8,) * 4, (3,) * 4, (8, 3, 8, 3)], ids=["one layout", "odd ranks", "two forms"])
def test_an_exchange_is_as_good_as_a_new_outfit(sd_folder: Path, tmp_path: Path, ranks: Sequence[int]) -> None:
    changed, anew = (load_pipeline(sd_folder, LoadOptions(), device="cpu") for _ in range(2))
    known, chance = adapters(sd_folder, tmp_path, changed, ranks), random.Random(0)

    def some() -> list[Mix]:
        portions = [Portion(each, chance.choice((1.0, 0.5)), 1.0) for each in chance.choices(known, k=3)]
        return [(portions[0],), (), (portions[1], portions[2]) if chance.random() < 0.3 else (portions[1],)]

    rows, oracle = AdapterRows(changed), AdapterRows(anew)
    outfits: dict[object, Outfit] = {}
    exchanges = 0
    for _ in range(EXCHANGES):
        mixes = some()
        outfit = outfits.get(rows.form(mixes))
        if outfit is None:
            rows.wear(mixes)
            draw(changed, 3)
            outfits[rows.form(mixes)] = rows.hand_over() or pytest.fail("something is worn")
            continue
        exchanges += 1
        outfit.exchange(mixes)
        rows._known[outfit.worn] = outfit
        rows.wear(mixes)
        found = draw(changed, 3)
        rows.hand_over()
        oracle.wear(mixes)
        assert torch.equal(found, draw(anew, 3))
    assert exchanges > 5


def test_ranks_are_filled_up_to_what_is_fast(sd_folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(sd_folder, LoadOptions(), device="cpu")
    [three] = adapters(sd_folder, tmp_path, pipeline, [3])
    outfit = Outfit([(Portion(three, 1.0, 1.0),), ()], dtype=torch.float32, device=torch.device("cpu"))
    for stack in outfit.stacks.values():
        assert isinstance(stack, LowRankStack)
        stack.prepare(torch.zeros(1))
        assert stack._down is not None
        assert stack._down.shape[1] == RANK_STEP


def test_forms_tell_what_can_be_exchanged(sd_folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(sd_folder, LoadOptions(), device="cpu")
    one, other, larger = adapters(sd_folder, tmp_path, pipeline, [3, 3, 4])

    def worn(weights: AdapterWeights, weight: float = 1.0) -> list[Mix]:
        return [(Portion(weights, weight, 1.0),), ()]

    assert form_of(worn(one)) == form_of(worn(other)) == form_of(worn(other, 0.5))
    assert form_of(worn(one)) != form_of(worn(larger))
    assert form_of(worn(one)) != form_of(worn(other, 0.0))
    assert form_of(worn(one)) != form_of(worn(one)[:1])
