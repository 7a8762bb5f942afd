"""The benches of the engine compare like with like, on a model that is small enough for a test."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import model
from bench.arrival import STEPS, Line, closing, play, poisson
from bench.claim import Claim, ratio, take_turns
from bench.cold_adapter import Forward, Ours
from bench.lora_file import KINDS, save_lora
from bench.mixed_lora import Ours as Batched
from bench.mixed_lora import make_plan
from bench.peer import Diffusers, Peft, load_each
from worker.engine.adapter_reader import read_adapter


@pytest.fixture(autouse=True, scope="module")
def _models_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "FOLDER", tmp_path_factory.mktemp("models"))
        yield


@pytest.mark.parametrize("name", ["mini", "mini-xl"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_ours_and_every_peer_draw_the_same_pictures(name: str, guidance: float, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = make_plan(name, steps=2, guidance=guidance)
    pipeline = model.load(name, device="cpu")
    files = [save_lora(tmp_path, pipeline, kind="r16 attention", seed=seed) for seed in (1, 2)]
    wanted = [files[0], files[1], files[0]]
    ours = Batched(pipeline, plan, folder=model.folder_of(name), rows=4)
    expected = ours.draw(ours.read(wanted))
    peft = Peft(model.load(name, device="cpu"), plan, wanted=wanted, rows=4)
    bare = Diffusers(model.load(name, device="cpu"), plan)
    for drawn in (peft.by_adapter_names(), peft.by_group(), peft.in_turn(), load_each(bare, wanted)):
        assert max(np.abs(one - other).max() for one, other in zip(drawn, expected, strict=True)) < 2 / 255
    plain = ours.draw([()] * 3)
    assert max(np.abs(one - other).max() for one, other in zip(bare.draw(range(3)), plain, strict=True)) < 2 / 255
    assert max(np.abs(one - other).max() for one, other in zip(plain, expected, strict=True)) > 2 / 255


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_fits_its_model(kind: str, tmp_path: Path) -> None:
    pipeline = model.load("mini", device="cpu")
    file = save_lora(tmp_path, pipeline, kind=kind, seed=1)
    assert save_lora(tmp_path, pipeline, kind=kind, seed=1) == file
    weights = read_adapter(file, pipeline, sha256=file.stem)
    layers = sum(isinstance(module, torch.nn.Linear | torch.nn.Conv2d) for module in pipeline.unet.modules())
    assert len(weights.layers) == layers if "all" in kind else 0 < len(weights.layers) < layers
    with torch.inference_mode():
        assert Ours(pipeline, tmp_path).cold(file) == pytest.approx(0.0, abs=5.0)
        Forward(model.load("mini-xl", device="cpu")).run()


def test_who_comes_later_waits_for_the_whole_batch_and_its_rows_are_counted() -> None:
    diffusers = Diffusers(model.load("mini", device="cpu"), make_plan("mini", steps=1, guidance=3.0))
    arrivals = poisson(3, rate=1000.0, seed=1)
    assert all(STEPS[0] <= arrival.steps <= STEPS[1] for arrival in arrivals)
    with closing(Line(diffusers, size=3, window=2.0)) as static, closing(Line(diffusers)) as fifo:
        batched = play(arrivals, static.serve, rows_each=2)
        alone = play(arrivals, fifo.serve, rows_each=2)
    assert batched.computed_rows == 2 * 3 * max(arrival.steps for arrival in arrivals) > batched.useful_rows
    assert alone.computed_rows == alone.useful_rows == 2 * sum(arrival.steps for arrival in arrivals)
    assert len(alone.latencies) == 3


def test_sides_take_turns_and_claims_know_whether_they_hold() -> None:
    order: list[str] = []

    def side(name: str, work: float) -> float:
        order.append(name)
        return work

    figures = take_turns(2, {"a": lambda: side("a", 2.0), "b": lambda: side("b", 1.0)})
    assert order == ["a", "b"] * 3
    assert len(figures["a"]["wall"]) == len(figures["b"]["cpu"]) == 2
    assert ratio({"a": {"wall": [2.0, 9.0, 4.0]}, "b": {"wall": [1.0, 3.0, 1.0]}}, "a", "b") == 3.0
    assert Claim(2, "", 1.0, 0.9).is_met
    assert not Claim(2, "", 1.0, 0.9, at_most=True).is_met
