import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig
from safetensors.torch import save_file
from torch import Tensor

from core.domain.base_model import LoadOptions
from core.domain.generation import ResolvedAdapter
from tests.tiny_adapter import ATTENTION, modules_of, save_diffusers, save_kohya, save_peft, targets_of, tune
from worker.engine.adapter_mix import Mix, Portion, is_mixable, mix_of, text_state
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_row import AdapterRows
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, load_pipeline

RANKS = (1, 3, 4, 16)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def fresh(folder: Path) -> Pipeline:
    return load_pipeline(folder, LoadOptions(), device="cpu")


class Wardrobe:
    """Two pipelines of the same weights: PEFT's with its adapters by name, ours with the same by index."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.ours, self.oracle = fresh(folder), fresh(folder)
        self.rows = AdapterRows(self.ours)
        self.weights: list[AdapterWeights] = []
        for index, file in enumerate(files):
            self.oracle.load_lora_weights(str(file), adapter_name=f"a{index}", use_safetensors=True)
            self.weights.append(read(file, self.ours))
        self.oracle.disable_lora()
        self.is_sdxl = hasattr(self.ours, "text_encoder_2")

    def inputs(self, rows: int, seed: int, size: int = 4) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        width = self.ours.unet.config.cross_attention_dim
        added = None
        if self.is_sdxl:
            added = {
                "text_embeds": torch.randn(rows, 32, generator=generator),
                "time_ids": torch.randint(16, 64, (rows, 6), generator=generator).float(),
            }
        return {
            "sample": torch.randn(rows, 4, size, size, generator=generator),
            "timestep": torch.randint(0, 1000, (rows,), generator=generator),
            "encoder_hidden_states": torch.randn(rows, 5, width, generator=generator),
            "added_cond_kwargs": added,
        }

    def draw(self, inputs: dict[str, Any]) -> Tensor:
        answer: Tensor = self.ours.unet(**inputs, return_dict=False)[0]
        return answer

    def alone(self, inputs: dict[str, Any], row: int, worn: Sequence[tuple[int, float]]) -> Tensor:
        """The forward of one row by itself, as PEFT makes it."""
        if worn:
            self.oracle.enable_lora()
            self.oracle.unet.set_adapters([f"a{index}" for index, _ in worn], [weight for _, weight in worn])
        else:
            self.oracle.disable_lora()
        answer: Tensor = self.oracle.unet(**one_row(inputs, row), return_dict=False)[0][0]
        return answer

    def mix(self, worn: Sequence[tuple[int, float]]) -> Mix:
        return tuple(Portion(self.weights[index], weight, weight) for index, weight in worn)


def read(file: Path, pipeline: Pipeline) -> AdapterWeights:
    return read_adapter(file, pipeline, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def one_row(inputs: dict[str, Any], row: int) -> dict[str, Any]:
    return {
        key: value[row : row + 1] if isinstance(value, Tensor) else value and one_row(value, row)
        for key, value in inputs.items()
    }


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"{request.param}_folder")
    return found


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters of four ranks: PEFT's names, diffusers', kohya's with alphas, and convolutions only."""
    files, place = [], tmp_path_factory.mktemp("adapters")
    for rank, form in zip(RANKS, ("peft", "diffusers", "kohya", "convolutions"), strict=True):
        maker = fresh(folder)
        names = {"diffusers": ATTENTION, "convolutions": ("conv1", "conv2", "conv", "conv_shortcut", "conv_in")}
        targets = {"unet": names[form]} if form in names else targets_of(maker)
        weights = tune(maker, targets, seed=rank, r=rank, lora_alpha=rank)
        weights = {name: tensor / 2 for name, tensor in weights.items() if "add_embedding" not in name}
        file = place / f"{form}.safetensors"
        if form == "kohya":
            save_kohya(file, weights, alphas=dict.fromkeys(modules_of(weights), rank / 2))
        else:
            (save_diffusers if form == "diffusers" else save_peft)(file, weights)
        files.append(file)
    return files


@pytest.fixture
def wardrobe(folder: Path, files: list[Path]) -> Wardrobe:
    return Wardrobe(folder, files)


def test_each_row_is_what_it_is_alone(wardrobe: Wardrobe) -> None:
    base_inputs = wardrobe.inputs(6, seed=0)
    base = wardrobe.draw(base_inputs)
    worn: list[list[tuple[int, float]]] = [
        [(0, 1.0)],
        [],
        [(1, 0.7), (3, -0.5)],
        [(2, 1.3)],
        [(0, 0.4), (1, 0.3), (2, 1.0)],
    ]
    worn.append([(3, 0.0)])
    wardrobe.rows.wear([wardrobe.mix(each) for each in worn])
    dressed = wardrobe.draw(base_inputs)
    for row, each in enumerate(worn):
        assert error(dressed[row], wardrobe.alone(base_inputs, row, each)) <= 1e-5
    assert torch.equal(dressed[1], base[1])
    assert torch.equal(dressed[5], base[5])
    assert min(error(dressed[row], base[row]) for row in (0, 2, 3, 4)) > 1e-3
    wardrobe.rows.wear([()])
    assert torch.equal(wardrobe.draw(base_inputs), base)


def test_a_thousand_random_rows(wardrobe: Wardrobe) -> None:
    """Half of them for each family, in batches of random sizes, guided pairs among them."""
    chance = random.Random(1)
    known = wardrobe.inputs(3, seed=0)
    base, done, worst = wardrobe.draw(known), 0, 0.0
    while done < 500:
        pictures, pair = chance.randint(1, 5), chance.choice([1, 2])
        kinds = [chance.sample(range(len(RANKS)), chance.randint(0, 3)) for _ in range(pictures)]
        worn = [[(kind, chance.choice([1.0, 0.0, chance.uniform(-2, 2)])) for kind in each] for each in kinds]
        if chance.random() < 0.2:
            worn = worn[:1] * pictures
        worn = [each for each in worn for _ in range(pair)]
        inputs = wardrobe.inputs(len(worn), seed=done)
        wardrobe.rows.wear([wardrobe.mix(each) for each in worn])
        dressed = wardrobe.draw(inputs)
        for row in range(0, len(worn), pair):
            worst = max(worst, error(dressed[row], wardrobe.alone(inputs, row, worn[row])))
        done += len(worn)
    assert worst <= 1e-5
    wardrobe.rows.forget()
    assert torch.equal(wardrobe.draw(known), base)


def test_where_nothing_is_worn_nothing_is_left(wardrobe: Wardrobe) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in wardrobe.ours.unet.modules())

    before = hooks()
    weights = {name: tensor.clone() for name, tensor in wardrobe.ours.unet.state_dict().items()}
    wardrobe.rows.wear([wardrobe.mix([(1, 1.0)]), ()])
    assert hooks() > before
    wardrobe.draw(wardrobe.inputs(2, seed=1))
    after = wardrobe.ours.unet.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    wardrobe.rows.wear([wardrobe.mix([(1, 0.0)]), ()])
    assert hooks() == before
    wardrobe.rows.wear([wardrobe.mix([(1, 1.0)]), ()])
    wardrobe.rows.wear([])
    assert hooks() == before


def test_text_encoders_take_any_number_of_rows(wardrobe: Wardrobe) -> None:
    parts = [part for part in ("text_encoder", "text_encoder_2") if hasattr(wardrobe.ours, part)]
    ids = {rows: torch.randint(1, 40, (rows, 24)) for rows in (1, 3)}
    mix = tuple(Portion(wardrobe.weights[index], 0.0, weight) for index, weight in ((0, 0.8), (2, -0.6)))
    base = {(part, rows): getattr(wardrobe.ours, part)(ids[rows])[0] for part in parts for rows in ids}
    wardrobe.rows.wear([mix])
    wardrobe.oracle.enable_lora()
    for part in parts:
        wardrobe.oracle.set_adapters(["a0", "a2"], [0.8, -0.6])
        for rows in ids:
            found, expected = (getattr(each, part)(ids[rows])[0] for each in (wardrobe.ours, wardrobe.oracle))
            assert error(found, expected) <= 1e-5
            assert error(found, base[part, rows]) > 1e-3
    inputs = wardrobe.inputs(2, seed=1)
    with_text_only = wardrobe.draw(inputs)
    wardrobe.rows.wear([])
    assert torch.equal(with_text_only, wardrobe.draw(inputs))
    assert torch.equal(getattr(wardrobe.ours, parts[0])(ids[3])[0], base[parts[0], 3])


def test_one_mix_holds_for_any_number_of_rows(wardrobe: Wardrobe) -> None:
    mix = wardrobe.mix([(0, 1.0), (3, 0.5)])
    wardrobe.rows.wear([mix])
    for rows in (1, 2, 5):
        inputs = wardrobe.inputs(rows, seed=rows)
        dressed = wardrobe.draw(inputs)
        assert error(dressed[-1], wardrobe.alone(inputs, rows - 1, [(0, 1.0), (3, 0.5)])) <= 1e-5
    wardrobe.rows.wear([mix, ()])
    with pytest.raises(RuntimeError, match="2 rows are dressed, and 3 came"):
        wardrobe.draw(wardrobe.inputs(3, seed=1))


def test_channels_last_and_lower_precision(wardrobe: Wardrobe) -> None:
    worn: list[list[tuple[int, float]]] = [[(0, 1.0)], [(3, 1.0)], []]
    inputs = wardrobe.inputs(3, seed=1)
    wardrobe.ours.unet.to(memory_format=torch.channels_last)
    wardrobe.rows.wear([wardrobe.mix(each) for each in worn])
    dressed = wardrobe.draw(inputs)
    for row, each in enumerate(worn):
        assert error(dressed[row], wardrobe.alone(inputs, row, each)) <= 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert error(wardrobe.draw(inputs), dressed) < 0.1
    wardrobe.ours.unet.to(torch.bfloat16)
    added = inputs["added_cond_kwargs"] and {key: each.bfloat16() for key, each in inputs["added_cond_kwargs"].items()}
    halves = {key: inputs[key].bfloat16() for key in ("sample", "encoder_hidden_states")}
    assert error(wardrobe.draw(inputs | halves | {"added_cond_kwargs": added}).float(), dressed) < 0.1


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0, -0.5])
def test_dora_and_a_lora_after_it(folder: Path, tmp_path: Path, weight: float) -> None:
    files = []
    for seed, use_dora in ((1, True), (2, False)):
        weights = tune(fresh(folder), {"unet": (*ATTENTION, "conv1")}, seed=seed, r=4, lora_alpha=4, use_dora=use_dora)
        files.append(save_peft(tmp_path / f"{seed}.safetensors", weights))
    wardrobe = Wardrobe(folder, files)
    inputs = wardrobe.inputs(2, seed=1)
    base = wardrobe.draw(inputs)
    for worn in ([(0, weight)], [(0, weight), (1, 0.7)], [(1, 0.7), (0, weight)]):
        mix = wardrobe.mix(worn)
        assert not is_mixable(mix)
        wardrobe.rows.wear([mix, mix])
        dressed = wardrobe.draw(inputs)
        for row in range(2):
            assert error(dressed[row], wardrobe.alone(inputs, row, worn)) <= 1e-5
        with pytest.raises(ValueError, match="a batch of its own"):
            wardrobe.rows.wear([mix, ()])
    wardrobe.rows.wear([])
    assert torch.equal(wardrobe.draw(inputs), base)


@pytest.mark.parametrize("kind", [LoHaConfig, LoKrConfig])
def test_loha_and_lokr(folder: Path, tmp_path: Path, kind: Any) -> None:
    wardrobe = Wardrobe(folder, [])
    targets = {"unet": (*ATTENTION, "conv1", "proj_in", "ff.net.2")}
    weights = tune(wardrobe.oracle, targets, seed=1, kind=kind, r=1, alpha=1)
    file = tmp_path / "adapter.safetensors"
    save_file(weights, file)
    wardrobe.weights.append(read(file, wardrobe.ours))
    inputs = wardrobe.inputs(2, seed=1)
    expected = wardrobe.oracle.unet(**inputs, return_dict=False)[0]
    wardrobe.rows.wear([wardrobe.mix([(0, 1.0)])] * 2)
    assert error(wardrobe.draw(inputs), expected) <= 1e-5


@pytest.mark.filterwarnings("ignore:Adapter .* have invalid shape")
def test_a_bias_beside_the_product(folder: Path, tmp_path: Path) -> None:
    weights = tune(fresh(folder), {"unet": ("to_out.0", "conv1")}, seed=1, r=4, lora_bias=True)
    wardrobe = Wardrobe(folder, [save_peft(tmp_path / "adapter.safetensors", weights)])
    inputs = wardrobe.inputs(2, seed=1)
    wardrobe.rows.wear([wardrobe.mix([(0, 0.7)])])
    assert error(wardrobe.draw(inputs)[1], wardrobe.alone(inputs, 1, [(0, 0.7)])) <= 1e-5


def resolved(digest: str, weight: float, text_weight: float) -> ResolvedAdapter:
    return ResolvedAdapter(
        id=digest, name=digest, version=1, sha256=digest, object_key="", weight=weight, text_encoder_weight=text_weight
    )


def test_a_mix_is_what_a_request_asks_for(wardrobe: Wardrobe) -> None:
    whole, unet_only = wardrobe.weights[0], wardrobe.weights[1]
    weights = {"whole": whole, "unet": unet_only}
    twice = mix_of([resolved("whole", 0.5, 0.25), resolved("unet", 1, 1), resolved("whole", 0.5, 0.5)], weights)
    assert twice == (Portion(whole, 1.0, 0.75), Portion(unet_only, 1.0, 1.0))
    assert is_mixable(twice)
    plain = text_state(())
    assert text_state(mix_of([resolved("unet", 1, 1)], weights)) == plain
    assert text_state(mix_of([resolved("whole", 0, 1)], weights)) != plain
    assert text_state(twice) == text_state(mix_of([resolved("whole", 7, 0.75)], weights))
