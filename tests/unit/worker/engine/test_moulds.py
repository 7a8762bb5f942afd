"""What a file's outline means is worked out once: the others are as if each had been read by itself."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.domain.base_model import LoadOptions
from core.domain.errors import AdapterUnusable
from tests.tiny_adapter import modules_of, save_kohya, targets_of, tune
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_reader import Moulds, read_adapter
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, load_pipeline


@pytest.fixture
def pipeline(sd_folder: Path) -> Pipeline:
    return load_pipeline(sd_folder, LoadOptions(), device="cpu")


def read(file: Path, pipeline: Pipeline, moulds: Moulds | None = None) -> AdapterWeights:
    return read_adapter(file, pipeline, sha256=file.stem, moulds=moulds)


def is_same(one: AdapterWeights, other: AdapterWeights) -> bool:
    assert list(one.layers) == list(other.layers)
    assert (one.form, one.layout, one.scales) == (other.form, other.layout, other.scales)
    pairs = [(one.layers[name], other.layers[name]) for name in one.layers]
    return all(
        a.scale == b.scale and torch.equal(a.down, b.down) and torch.equal(a.up, b.up) and a.up.dtype == b.up.dtype
        for a, b in pairs
    )


def test_files_that_say_the_same_are_cast_in_one_mould(sd_folder: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    moulds = Moulds()
    files = [save_lora(tmp_path / f"{seed}.safetensors", sd_folder, seed=seed, rank=4) for seed in range(3)]
    for file in files:
        save_file(load_file(file), file)  # without the library's own text, in which sets are written in any order
    found = [read(file, pipeline, moulds) for file in files]
    assert found[1].mould is found[2].mould is found[0].mould
    assert all(is_same(each, read(file, pipeline)) for each, file in zip(found, files, strict=True))
    assert not is_same(found[1], found[2])
    assert found[1].numbers is not None
    assert found[1].numbers.data_ptr() >= found[1].memory.data_ptr()
    assert "unet.conv_in" not in found[1].layers


def test_another_rank_is_another_mould_and_another_text_is_none(
    sd_folder: Path, tmp_path: Path, pipeline: Pipeline
) -> None:
    moulds = Moulds()
    file = save_lora(tmp_path / "1.safetensors", sd_folder, rank=4)
    larger = save_lora(tmp_path / "2.safetensors", sd_folder, rank=8)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    spoken = tmp_path / "3.safetensors"
    save_file(load_file(file), spoken, metadata=metadata | {"said": "something else"})
    found = [read(each, pipeline, moulds) for each in (file, larger, spoken)]
    assert found[0].mould is found[2].mould is not found[1].mould
    assert is_same(found[2], read(spoken, pipeline))


def test_alphas_are_numbers_too(sd_folder: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    maker, moulds = load_pipeline(sd_folder, LoadOptions(), device="cpu"), Moulds()
    weights = tune(maker, targets_of(maker), seed=1, r=4, lora_alpha=4)
    files = [
        save_kohya(tmp_path / f"{alpha}.safetensors", weights, alphas=dict.fromkeys(modules_of(weights), alpha))
        for alpha in (1.0, 2.0)
    ]
    scales = [set(read(file, pipeline, moulds).scales.values()) for file in files]
    assert scales == [{0.25}, {0.5}]


def test_a_file_that_is_cut_short_is_refused_though_its_names_are_known(
    sd_folder: Path, tmp_path: Path, pipeline: Pipeline
) -> None:
    moulds = Moulds()
    file = save_lora(tmp_path / "1.safetensors", sd_folder)
    read(file, pipeline, moulds)
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(AdapterUnusable):
        read(file, pipeline, moulds)


def test_moulds_are_few_and_go_with_their_pipeline(sd_folder: Path, tmp_path: Path) -> None:
    pipeline, moulds = load_pipeline(sd_folder, LoadOptions(), device="cpu"), Moulds()
    mould = read(save_lora(tmp_path / "1.safetensors", sd_folder), pipeline, moulds).mould
    for number in range(40):
        moulds.keep(pipeline, f"{number}".encode(), mould)
    kept = [moulds.find(pipeline, f"{number}".encode()) is mould for number in range(40)]
    assert kept == [False] * 24 + [True] * 16
    gone = weakref.ref(mould)
    del pipeline, mould
    gc.collect()
    assert gone() is None
