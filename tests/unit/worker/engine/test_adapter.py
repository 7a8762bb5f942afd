import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain.base_model import LoadOptions
from core.domain.errors import AdapterUnusable
from core.domain.generation import ResolvedAdapter
from tests.tiny_pipeline import save_lora
from worker.engine.adapter import AdapterRack
from worker.engine.pipeline import Pipeline, load_pipeline


class Shelf:
    """LoRA files for one model, and the files a request would name them by."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.files: dict[str, Path] = {}

    def make(
        self, *, seed: int = 1, rank: int = 2, parts: tuple[str, ...] = ("unet",), weight: float = 1.0
    ) -> ResolvedAdapter:
        return self.add(save_lora(self.folder / f"{seed}.safetensors", self.model, seed=seed, rank=rank, parts=parts),
                        weight=weight)  # fmt: skip

    def add(self, file: Path, *, weight: float = 1.0) -> ResolvedAdapter:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.files[digest] = file
        return ResolvedAdapter(
            id=digest,
            name=file.stem,
            version=1,
            sha256=digest,
            object_key="",
            weight=weight,
            text_encoder_weight=weight,
        )


@pytest.fixture
def shelf(tmp_path: Path, sd_folder: Path) -> Shelf:
    return Shelf(tmp_path, sd_folder)


def draw(pipeline: Pipeline) -> np.ndarray:
    with torch.inference_mode():
        pixels: np.ndarray = pipeline(
            "a star", num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="np"
        ).images[0]
    return pixels


def with_peft(model: Path, shelf: Shelf, *adapters: ResolvedAdapter) -> np.ndarray:
    """What diffusers and peft draw by themselves, from a model that never saw anything else."""
    pipeline = load_pipeline(model, LoadOptions(), device="cpu")
    for adapter in adapters:
        pipeline.load_lora_weights(str(shelf.files[adapter.sha256]), adapter_name=adapter.name)
    pipeline.set_adapters([adapter.name for adapter in adapters], [adapter.weight for adapter in adapters])
    return draw(pipeline)


@pytest.mark.parametrize("parts", [("unet",), ("text_encoder",), ("unet", "text_encoder")])
def test_it_draws_what_peft_draws_and_leaves_nothing_behind(
    sd: Pipeline, sd_folder: Path, shelf: Shelf, parts: tuple[str, ...]
) -> None:
    rack, base = AdapterRack(sd), draw(sd)
    one, other = shelf.make(seed=1, parts=parts, weight=0.7), shelf.make(seed=2, rank=3, parts=parts, weight=-0.5)
    drawn = []
    for request in ((one,), (), (one, other), (other,), (), (one,)):
        rack.apply(request, files=shelf.files)
        drawn.append(draw(sd))
        expected = with_peft(sd_folder, shelf, *request) if request else base
        assert np.array_equal(drawn[-1], expected)
    assert not np.array_equal(drawn[0], base)
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("parts", [("unet",), ("unet", "text_encoder", "text_encoder_2")])
def test_sdxl(sdxl: Pipeline, sdxl_folder: Path, tmp_path: Path, parts: tuple[str, ...]) -> None:
    shelf = Shelf(tmp_path, sdxl_folder)
    rack, base = AdapterRack(sdxl), draw(sdxl)
    adapter = shelf.make(parts=parts)
    rack.apply([adapter], files=shelf.files)
    assert np.array_equal(draw(sdxl), with_peft(sdxl_folder, shelf, adapter))
    assert not np.array_equal(draw(sdxl), base)
    rack.apply([], files={})
    assert np.array_equal(draw(sdxl), base)


def test_the_weights_of_unet_and_text_encoder_are_apart(sd: Pipeline, shelf: Shelf) -> None:
    rack, base = AdapterRack(sd), draw(sd)
    adapter = shelf.make(parts=("unet", "text_encoder"))
    drawn = []
    for weight, text_weight in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)):
        changed = adapter.model_copy(update={"weight": weight, "text_encoder_weight": text_weight})
        rack.apply([changed], files=shelf.files)
        drawn.append(draw(sd))
    assert np.array_equal(drawn.pop(), base)
    assert len({image.tobytes() for image in [*drawn, base]}) == 4


def test_named_twice_the_weights_add_up(sd: Pipeline, shelf: Shelf) -> None:
    rack = AdapterRack(sd)
    adapter = shelf.make(weight=0.5)
    rack.apply([adapter, adapter], files=shelf.files)
    twice = draw(sd)
    rack.apply([adapter.model_copy(update={"weight": 1.0, "text_encoder_weight": 1.0})], files=shelf.files)
    assert np.array_equal(draw(sd), twice)


def test_the_state_of_the_text_encoders_is_told(sd: Pipeline, shelf: Shelf) -> None:
    rack = AdapterRack(sd)
    unet_only, both = shelf.make(seed=1), shelf.make(seed=2, parts=("unet", "text_encoder"))
    plain = rack.apply([], files={})
    assert rack.apply([unet_only], files=shelf.files) == plain
    assert rack.apply([unet_only, both], files=shelf.files) != plain
    assert rack.apply([], files={}) == plain


def test_more_adapters_than_are_kept(sd: Pipeline, shelf: Shelf) -> None:
    rack, base = AdapterRack(sd), draw(sd)
    adapters = [shelf.make(seed=seed) for seed in range(10)]
    first = []
    for adapter in adapters:
        rack.apply([adapter], files=shelf.files)
        first.append(draw(sd))
    assert len({image.tobytes() for image in first}) == 10
    assert len(sd.get_list_adapters()["unet"]) == 8
    for adapter, image in zip(adapters, first, strict=True):
        rack.apply([adapter], files=shelf.files)
        assert np.array_equal(draw(sd), image)
    rack.apply([], files={})
    assert np.array_equal(draw(sd), base)


def rename(file: Path, old: str, new: str) -> None:
    save_file({key.replace(old, new): value for key, value in load_file(file).items()}, file)


def replace(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def cut(file: Path) -> None:
    replace(file, file.read_bytes()[:-100])


def widen(file: Path) -> None:
    save_file({key: torch.cat([value, value], dim=1) for key, value in load_file(file).items()}, file)


BROKEN: dict[str, Callable[[Path], None]] = {
    "nothing matches": lambda file: rename(file, "unet.", "unet.elsewhere."),
    "another component": lambda file: rename(file, "unet.", "transformer."),
    "no lora": lambda file: rename(file, "lora", "lure"),
    "cut": cut,
    "other shapes": widen,
    "text": lambda file: replace(file, b"hello"),
    "empty": lambda file: replace(file, b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_does_not_fit_is_refused_and_changes_nothing(sd: Pipeline, shelf: Shelf, how: str) -> None:
    rack, base = AdapterRack(sd), draw(sd)
    good = shelf.make(seed=1)
    rack.apply([good], files=shelf.files)
    with_good = draw(sd)
    bad = shelf.make(seed=2)
    BROKEN[how](shelf.files[bad.sha256])
    for _ in range(2):
        with pytest.raises(AdapterUnusable, match=bad.sha256):
            rack.apply([good, bad], files=shelf.files)
    rack.apply([], files={})
    assert np.array_equal(draw(sd), base)
    rack.apply([good], files=shelf.files)
    assert np.array_equal(draw(sd), with_good)
