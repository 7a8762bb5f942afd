"""Extra milliseconds of a request whose LoRA is on disk only ÷ reading and copying the file's bytes.

`python -m bench.cold_adapter`. A side brings a LoRA and makes one forward of one smallest row with it, then the same
forward again; the difference is what bringing and first wearing it cost. Ours is the engine's shelf. The peers are
diffusers' `load_lora_weights` with `low_cpu_mem_usage=True`, and its hotswap into a LoRA that is loaded. Files are in
the page cache for all, and a file of the same trainer was seen before. What a first wear costs is paid at every change
of a batch's members, cold or not.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from bench import model
from bench.claim import Claim, write
from bench.lora_file import KINDS, as_asked, save_lora
from core.domain.generation import ResolvedAdapter
from worker.engine.adapter_cache import AdapterCache
from worker.engine.adapter_mix import mix_of
from worker.engine.adapter_row import AdapterRows
from worker.engine.adapter_shelf import AdapterShelf
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline

THREADS = 1
FILES = 3
ROOM = 2**36  # bytes; nothing is put away meanwhile
TARGETS = {"cold": 1.5, "hotswap": 10.0, "prefetched": 0.2}
Side = Callable[[Path], float]
"""Brings a LoRA; gives the extra seconds."""


def main(given: Sequence[str] | None = None) -> bool:
    """Measure and print; the figures are milliseconds; whether all targets are met."""
    parser = model.parser(__doc__, models=("tiny", "mid"), rounds=9)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["r16 attention", "r64 all layers"])
    asked = parser.parse_args(given)
    torch.set_num_threads(THREADS)
    met = [measure(name, asked) for name in asked.models]
    return all(met)


def measure(name: str, asked: Any) -> bool:
    """Every kind of LoRA on one model."""
    claims: list[Claim] = []
    figures: dict[str, dict[str, list[float]]] = {}
    for kind in asked.kinds:
        with TemporaryDirectory() as folder, torch.inference_mode():
            figures[kind], size = milliseconds(name, kind, asked, Path(folder) / "cache" / "adapter")
        claims += claims_of(kind, figures[kind], size)
    setting = {"model": name, "device": asked.device, "threads": THREADS}
    stem = model.stem("cold_adapter", name, asked)
    command = "python -m bench.cold_adapter"
    return write(stem, claims, command=command, figures=figures, setting=setting, to=asked.results)


def milliseconds(name: str, kind: str, asked: Any, folder: Path) -> tuple[dict[str, list[float]], int]:
    """Of every side in each round, after one to warm up; and the bytes of a file."""
    first = model.load(name, device=asked.device)
    files = [save_lora(folder, first, kind=kind, seed=seed) for seed in range(FILES)]
    ours = Ours(first, folder)
    sides: dict[str, Side] = {
        "read and copy": lambda file: copied(file, first._execution_device),
        "ours, cold": ours.cold,
        "ours, cold: in the shelf": ours.cold_in_the_shelf,
        "ours, prefetched: in the shelf": ours.prefetched_in_the_shelf,
        "load_lora_weights": Loading(model.load(name, device=asked.device)).bring,
        "hotswap": Hotswap(model.load(name, device=asked.device), files[0]).bring,
    }
    figures: dict[str, list[float]] = {side: [] for side in sides}
    for number, file in zip(range(asked.rounds + 1), cycle(files), strict=False):
        for side, bring in sides.items():
            extra = bring(file) * 1e3
            if number > 0:
                figures[side].append(extra)
    return figures, files[0].stat().st_size


def copied(file: Path, device: torch.device) -> float:
    """What no one can do without: the bytes read, and copied to where they are used."""
    start = time.perf_counter()
    content = torch.empty(file.stat().st_size, dtype=torch.uint8)
    with file.open("rb") as opened:
        opened.readinto(content.numpy().data)
    content.to(device, copy=True)
    settle()
    return time.perf_counter() - start


class Forward:
    """One forward of one row, the smallest that the UNet takes."""

    def __init__(self, pipeline: Pipeline) -> None:
        unet = pipeline.unet
        self._unet, self._time = unet, torch.tensor(500, device=unet.device)
        side = 2 ** (len(unet.config.block_out_channels) - 1)
        place = {"device": unet.device, "dtype": unet.dtype}
        self._latents = torch.zeros(1, unet.config.in_channels, side, side, **place)
        self._text = torch.zeros(1, 24, unet.config.cross_attention_dim, **place)
        self._added: Any = None
        if unet.config.addition_embed_type == "text_time":
            width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            self._added = {"text_embeds": torch.zeros(1, width, **place), "time_ids": torch.zeros(1, 6, **place)}

    def run(self) -> None:
        """And wait for the device."""
        self._unet(self._latents, self._time, self._text, added_cond_kwargs=self._added)
        settle()

    def extra(self, bring: Callable[[], None]) -> float:
        """Seconds that bringing and first wearing something took."""
        start = time.perf_counter()
        bring()
        self.run()
        middle = time.perf_counter()
        self.run()
        return (middle - start) - (time.perf_counter() - middle)


class Ours:
    """A shelf that keeps nothing beyond a request."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline, self._forward, self._rows = pipeline, Forward(pipeline), AdapterRows(pipeline)
        self._device = pipeline._execution_device  # which looks at every module
        self._cache = cast(AdapterCache, OnDisk(folder))
        self._shelf = AdapterShelf(self._cache, host_bytes=0, device_bytes=0)

    def cold(self, file: Path) -> float:
        """From the disk to the first forward's end, in place of what the row wore before."""
        return self._forward.extra(lambda: self._wear(file))

    def cold_in_the_shelf(self, file: Path) -> float:
        """Without the first wear."""
        return self._in_the_shelf(self._shelf, file)

    def prefetched_in_the_shelf(self, file: Path) -> float:
        """What is left of it where it was brought before."""
        shelf = AdapterShelf(self._cache, host_bytes=ROOM, device_bytes=ROOM)
        self._in_the_shelf(shelf, file)
        return self._in_the_shelf(shelf, file)

    def _in_the_shelf(self, shelf: AdapterShelf, file: Path) -> float:
        settle()
        start = time.perf_counter()
        with self._using(shelf, as_asked(file)):
            settle()
            return time.perf_counter() - start

    def _wear(self, file: Path) -> None:
        adapter = as_asked(file)
        with self._using(self._shelf, adapter) as weights:
            self._rows.wear([mix_of([adapter], weights)])

    def _using(
        self, shelf: AdapterShelf, adapter: ResolvedAdapter
    ) -> AbstractContextManager[dict[str, AdapterWeights]]:
        return shelf.use([adapter], model="bench", pipeline=self._pipeline, device=self._device)


class OnDisk:
    """A disk cache that has every file already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, *, sha256: str, object_key: str) -> Path:  # noqa: ARG002  # as a cache is asked
        return self._folder / f"{sha256}.safetensors"


class Loading:
    """diffusers and PEFT: a LoRA injected, and taken out again after the clock has stopped."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline, self._forward = pipeline, Forward(pipeline)

    def bring(self, file: Path) -> float:
        extra = self._forward.extra(
            lambda: self._pipeline.load_lora_weights(
                str(file.parent),
                weight_name=file.name,
                low_cpu_mem_usage=True,
                adapter_name="bench",
                use_safetensors=True,
            )
        )
        self._pipeline.unload_lora_weights()
        return extra


class Hotswap:
    """diffusers' exchange of the weights of a LoRA that stays injected."""

    def __init__(self, pipeline: Any, first: Path) -> None:
        self._pipeline, self._forward = pipeline, Forward(pipeline)
        pipeline.load_lora_weights(
            str(first.parent), weight_name=first.name, adapter_name="bench", use_safetensors=True
        )

    def bring(self, file: Path) -> float:
        return self._forward.extra(
            lambda: self._pipeline.load_lora_weights(
                str(file.parent), weight_name=file.name, hotswap=True, adapter_name="bench", use_safetensors=True
            )
        )


def settle() -> None:
    """Wait for what the device still does."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def claims_of(kind: str, figures: Mapping[str, list[float]], size: int) -> Iterator[Claim]:
    """Against the bytes, and against hotswap; medians of all rounds."""
    ms = {side: statistics.median(values) for side, values in figures.items()}
    floor, ours = ms["read and copy"], ms["ours, cold"]
    shelf = ms["ours, cold: in the shelf"]
    name = f"{kind}, {size / 2**20:.1f} MiB"
    note = f"{ours:.2f} ms, of them {shelf:.2f} in the shelf; bytes {floor:.2f} ms"
    peers = {side: ms[side] / floor for side in ("load_lora_weights", "hotswap")}
    yield Claim(
        4, f"extra ms of a cold LoRA ÷ reading and copying it ({name})", ours / floor, TARGETS["cold"], True, peers,
        note=note,
    )  # fmt: skip
    yield Claim(4, f"hotswap's extra ms ÷ a cold LoRA's ({name})", ms["hotswap"] / ours, TARGETS["hotswap"])
    yield Claim(
        4, f"ms that a prefetched LoRA is waited for ({name})", ms["ours, prefetched: in the shelf"],
        TARGETS["prefetched"], True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
