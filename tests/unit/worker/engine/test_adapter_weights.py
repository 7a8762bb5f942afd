import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.domain.base_model import LoadOptions
from tests.tiny_adapter import ATTENTION, modules_of, save_diffusers, save_kohya, save_peft, targets_of, tune
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_change import worn_weight
from worker.engine.adapter_reader import read_adapter
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, load_pipeline


def fresh(folder: Path) -> Pipeline:
    return load_pipeline(folder, LoadOptions(), device="cpu")


def read(file: Path, pipeline: Pipeline) -> AdapterWeights:
    return read_adapter(file, pipeline, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def by_peft(pipeline: Pipeline, name: str, weight: float = 1.0) -> dict[str, Tensor]:
    """The weight of every changed module, merged by PEFT itself."""
    found = {}
    for component in pipeline._lora_loadable_modules:
        for path, module in getattr(pipeline, component).named_modules():
            if hasattr(module, "base_layer"):
                module.set_scale(name, weight)
                module.merge(adapter_names=[name])
                found[f"{component}.{path}"] = module.base_layer.weight.detach().clone()
    return found


def by_us(weights: AdapterWeights, pipeline: Pipeline, weight: float = 1.0) -> dict[str, Tensor]:
    changes = {**weights.layers, **weights.dense}
    return {
        name: worn_weight(pipeline_module(pipeline, name).weight.detach(), [(change, weight)])
        for name, change in changes.items()
    }


def pipeline_module(pipeline: Pipeline, name: str) -> Any:
    component, path = name.split(".", 1)
    return getattr(pipeline, component).get_submodule(path)


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    errors = {name: float((ours[name] - expected[name]).norm() / expected[name].norm()) for name in expected}
    assert max(errors.values()) <= 1e-5, max(errors, key=lambda name: errors[name])


@pytest.fixture(params=["sd", "sdxl"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"{request.param}_folder")
    return found


@pytest.mark.parametrize("form", ["peft", "diffusers", "kohya"])
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_every_module_is_changed_as_diffusers_and_peft_change_it(
    folder: Path, tmp_path: Path, form: str, rank: int
) -> None:
    maker = fresh(folder)
    # A file in diffusers' names that has other names as well is loaded in part, by diffusers.
    targets = targets_of(maker, ATTENTION) if form == "diffusers" else targets_of(maker)
    weights = tune(maker, targets, seed=rank, r=rank, lora_alpha=rank)
    if form == "kohya":  # diffusers does not know these two by that name
        weights = {name: tensor for name, tensor in weights.items() if "add_embedding" not in name}
    file = tmp_path / "adapter.safetensors"
    if form == "peft":
        save_peft(file, weights)
    elif form == "diffusers":
        save_diffusers(file, weights)
    else:
        save_kohya(file, weights, alphas=dict.fromkeys(modules_of(weights), rank / 4))
    oracle, pipeline = fresh(folder), fresh(folder)
    oracle.load_lora_weights(str(file), adapter_name="a", use_safetensors=True)
    found = read(file, pipeline)
    assert_same(by_us(found, pipeline, 0.7), by_peft(oracle, "a", 0.7))
    assert found.is_mixable
    assert found.changes_text
    if rank == 16:  # else the file is names mostly, and rounding up to words
        assert found.size_bytes <= 1.1 * file.stat().st_size


@pytest.mark.parametrize("use_rslora", [False, True])
def test_ranks_and_alphas_of_single_modules_are_in_the_settings(
    sd_folder: Path, tmp_path: Path, use_rslora: bool
) -> None:
    maker = fresh(sd_folder)
    patterns: dict[str, dict[str, dict[str, int]]] = {
        "unet": {
            "rank_pattern": {"to_q": 2, "conv1": 7},
            "alpha_pattern": {"to_k": 5, "attn2.to_q": 1, "mid_block.resnets.0.conv1": 3},
        },
        "text_encoder": {"rank_pattern": {"fc1": 3}, "alpha_pattern": {"fc1": 9, "layers.0.mlp.fc2": 1}},
    }
    weights: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for part, names in targets_of(maker).items():
        options: dict[str, Any] = {"r": 4, "lora_alpha": 2, "use_rslora": use_rslora, **patterns[part]}
        weights |= tune(maker, {part: names}, seed=1, **options)
        settings |= {f"{part}.{key}": value for key, value in options.items()}
        settings[f"{part}.target_modules"] = list(names)
    file = save_peft(tmp_path / "adapter.safetensors", weights, settings)
    oracle, pipeline = fresh(sd_folder), fresh(sd_folder)
    oracle.load_lora_weights(str(file), adapter_name="a", use_safetensors=True)
    assert_same(by_us(read(file, pipeline), pipeline), by_peft(oracle, "a"))


def test_kohya_alphas_hold_for_their_own_module(folder: Path, tmp_path: Path) -> None:
    """Diffusers 0.42 loses those of attention layers when they differ, so the oracle is PEFT with the right ones."""
    oracle, pipeline = fresh(folder), fresh(folder)
    names = modules_of(tune(fresh(folder), targets_of(oracle), seed=1, r=4))
    alphas = {name: float(1 + index % 3) for index, name in enumerate(names)}
    pattern = {name.split(".", 1)[1].replace(".", r"\."): alpha for name, alpha in alphas.items() if "unet." in name}
    targets = {"unet": targets_of(oracle)["unet"]}
    weights = tune(
        oracle, targets, seed=1, r=4, lora_alpha=4, alpha_pattern={f"^{key}": pattern[key] for key in pattern}
    )
    file = save_kohya(tmp_path / "adapter.safetensors", weights, alphas=alphas)
    found = read(file, pipeline)
    assert_same(by_us(found, pipeline), by_peft(oracle, "tuned"))
    assert not found.changes_text


def test_kohya_without_alphas_has_those_of_the_rank(sd: Pipeline, sd_folder: Path, tmp_path: Path) -> None:
    oracle = fresh(sd_folder)
    weights = tune(oracle, targets_of(oracle), seed=1, r=4, lora_alpha=4)
    found = read(save_kohya(tmp_path / "adapter.safetensors", weights, alphas={}), sd)
    assert_same(by_us(found, sd), by_peft(oracle, "tuned"))


def test_the_names_of_the_original_sdxl_code(sdxl: Pipeline, sdxl_folder: Path, tmp_path: Path) -> None:
    names = {
        "lora_unet_input_blocks_0_0": (4, 16),
        "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q": (32, 32),
        "lora_unet_middle_block_0_in_layers_2": (32, 32),
        "lora_unet_label_emb_0_0": (80, 64),
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": (32, 64),
    }
    tensors = {}
    for name, (inputs, outputs) in names.items():
        kernel = (3, 3) if "blocks_0_0" in name or "in_layers" in name else ()
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, inputs, *kernel)
        tensors[f"{name}.lora_up.weight"] = torch.randn(outputs, 2, *([1, 1] if kernel else []))
    file = tmp_path / "adapter.safetensors"
    save_file(tensors, file)
    oracle = fresh(sdxl_folder)
    oracle.load_lora_weights(str(file), adapter_name="a", use_safetensors=True)
    assert_same(by_us(read(file, sdxl), sdxl), by_peft(oracle, "a"))


@pytest.mark.parametrize("weight", [1.0, 0.4, 0.0, -1.5])
@pytest.mark.parametrize("form", ["peft", "diffusers", "kohya"])
def test_dora(folder: Path, tmp_path: Path, form: str, weight: float) -> None:
    oracle, pipeline = fresh(folder), fresh(folder)
    weights = tune(oracle, targets_of(oracle), seed=1, r=4, lora_alpha=4, use_dora=True)
    file = tmp_path / "adapter.safetensors"
    if form == "peft":
        save_peft(file, weights)
    elif form == "diffusers":
        save_diffusers(file, weights)
    else:
        for name, tensor in weights.items():
            if "magnitude" in name and tensor.dim() == 4:  # LyCORIS puts the outputs first
                weights[name] = tensor.reshape(-1, 1, 1, 1)
        save_kohya(file, weights, alphas={})
    found = read(file, pipeline)
    assert not found.is_mixable
    assert not found.layers
    assert_same(by_us(found, pipeline, weight), by_peft(oracle, "tuned", weight))


def test_dora_of_the_inputs(sd: Pipeline, tmp_path: Path) -> None:
    """LyCORIS' older kind: the norm of each column."""
    module = sd.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    down, up, magnitude = torch.randn(2, 32), torch.randn(32, 2), torch.rand(1, 32)
    file = tmp_path / "adapter.safetensors"
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.dora_scale": magnitude}, file)
    (ours,) = by_us(read(file, sd), sd).values()
    changed = module.weight.detach() + up @ down
    expected = changed / changed.norm(dim=0) * magnitude
    assert float((ours - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize("form", ["peft", "kohya"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LoHaConfig, {"r": 4}),
        (LoHaConfig, {"r": 4, "use_effective_conv2d": True}),
        (LoKrConfig, {"r": 1}),
        (LoKrConfig, {"r": 1, "decompose_both": True, "use_effective_conv2d": True}),
        (LoKrConfig, {"r": 2, "alpha": 2, "decompose_both": True}),
        (LoKrConfig, {"r": 64, "alpha": 64, "decompose_factor": 4}),
    ],
)
def test_loha_and_lokr(sd_folder: Path, tmp_path: Path, form: str, kind: Any, options: dict[str, Any]) -> None:
    oracle, pipeline = fresh(sd_folder), fresh(sd_folder)
    # In LyCORIS' files there is no rank, so no alpha either, where nothing is decomposed; PEFT has them all the same.
    options = {"alpha": 0.5, **options}
    weights = tune(oracle, targets_of(oracle), seed=1, kind=kind, **options)
    alpha = float(options["alpha"])
    modules = modules_of(weights)
    file = tmp_path / "adapter.safetensors"
    if form == "peft":
        save_file(weights | {f"{name}.alpha": torch.tensor(alpha) for name in modules}, file)
    else:
        save_kohya(file, weights, alphas=dict.fromkeys(modules, alpha))
    found = read(file, pipeline)
    assert not found.is_mixable
    assert_same(by_us(found, pipeline, 0.6), by_peft(oracle, "tuned", 0.6))


def test_full_differences_and_the_tucker_form(sd: Pipeline, tmp_path: Path) -> None:
    conv = sd.unet.get_submodule("mid_block.resnets.0.conv1")
    diff, mid = torch.randn_like(conv.weight), torch.randn(2, 3, 3, 3)
    down, up = torch.randn(3, 32, 1, 1), torch.randn(32, 2, 1, 1)
    file = tmp_path / "adapter.safetensors"
    save_file(
        {
            "lora_unet_mid_block_resnets_0_conv1.diff": diff,
            "lora_unet_mid_block_resnets_0_conv2.lora_down.weight": down,
            "lora_unet_mid_block_resnets_0_conv2.lora_mid.weight": mid,
            "lora_unet_mid_block_resnets_0_conv2.lora_up.weight": up,
            "lora_unet_mid_block_resnets_0_conv2.alpha": torch.tensor(1.0),
        },
        file,
    )
    found = read(file, sd)
    ours = by_us(found, sd)
    full, tucker = "unet.mid_block.resnets.0.conv1", "unet.mid_block.resnets.0.conv2"
    delta = torch.einsum("or,rjkl,ji->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0]) / 2
    bases = {name: pipeline_module(sd, name).weight.detach() for name in ours}
    assert_same(ours, {full: bases[full] + diff, tucker: bases[tucker] + delta})
    assert list(found.dense) == [full]


def test_half_precision_stays_what_it_is(sd: Pipeline, sd_folder: Path, tmp_path: Path) -> None:
    file = save_lora(tmp_path / "adapter.safetensors", sd_folder, rank=16)
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    found = read(file, sd)
    assert {change.down.dtype for change in found.layers.values()} == {torch.float16}
    assert found.size_bytes <= 1.1 * file.stat().st_size
    assert not found.changes_text


def test_reading_leaves_the_pipeline_and_the_file_alone(sd: Pipeline, sd_folder: Path, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in sd.unet.state_dict().items()}
    file = save_lora(tmp_path / "adapter.safetensors", sd_folder)
    found = read(file, sd)
    changes = {name: change.down.clone() for name, change in found.layers.items()}
    file.write_bytes(b"\xff" * file.stat().st_size)
    assert all(torch.equal(found.layers[name].down, changes[name]) for name in changes)
    after = sd.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_copy_elsewhere_is_one_piece(sd: Pipeline, sd_folder: Path, tmp_path: Path) -> None:
    found = read(save_lora(tmp_path / "adapter.safetensors", sd_folder), sd)
    assert found.to(torch.device("cpu")) is found
    copy = found.to(torch.device("meta"))
    assert {change.up.shape for change in copy.layers.values()} == {change.up.shape for change in found.layers.values()}
    assert all(change.up.is_meta for change in copy.layers.values())
