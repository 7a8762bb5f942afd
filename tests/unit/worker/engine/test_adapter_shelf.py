import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from core.domain.errors import AdapterUnusable, Unavailable
from core.domain.generation import ResolvedAdapter
from core.domain.holding import Residency
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.tiny_pipeline import save_lora
from worker.engine.adapter_cache import AdapterCache
from worker.engine.adapter_shelf import AdapterShelf
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline

MODEL = "tiny"


class Disk:
    """The cache's own folder, filled by hand: the object store is never there."""

    def __init__(self, settings: Settings, model: Path) -> None:
        self.cache = AdapterCache(settings, ObjectStore(settings))
        self._folder, self._model = settings.cache_dir / "adapter", model
        self._folder.mkdir(parents=True)

    def path(self, adapter: ResolvedAdapter) -> Path:
        return self._folder / f"{adapter.sha256}.safetensors"

    def make(self, seed: int, rank: int = 4) -> ResolvedAdapter:
        draft = save_lora(self._folder / "draft.safetensors", self._model, seed=seed, rank=rank)
        digest = hashlib.sha256(draft.read_bytes()).hexdigest()
        adapter = ResolvedAdapter(
            id=digest, name=f"a{seed}", version=1, sha256=digest, object_key="gone", weight=1, text_encoder_weight=1
        )
        draft.rename(self.path(adapter))
        return adapter


@pytest.fixture
def disk(alone: Settings, sd_folder: Path) -> Disk:
    return Disk(alone, sd_folder)


@pytest.fixture
def size(disk: Disk, sd: Pipeline) -> int:
    """Bytes of one adapter."""
    shelf = AdapterShelf(disk.cache, host_bytes=2**30, device_bytes=0)
    return take(shelf, sd, disk.make(99)).size_bytes


def take(shelf: AdapterShelf, pipeline: Pipeline, *adapters: ResolvedAdapter) -> AdapterWeights:
    """The first of them."""
    with shelf.use(adapters, model=MODEL, pipeline=pipeline, device=pipeline.device) as found:
        return found[adapters[0].sha256]


def test_it_is_read_once(disk: Disk, sd: Pipeline) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=2**30, device_bytes=2**30)
    adapter = disk.make(1)
    first = take(shelf, sd, adapter)
    disk.path(adapter).unlink()
    assert take(shelf, sd, adapter) is first
    assert take(shelf, sd, adapter) is first
    held = shelf.residency()
    assert held["host"] == Residency(adapters=1, size_bytes=first.size_bytes, hits=2, misses=1)
    assert held["device"] == Residency(adapters=0, size_bytes=0, hits=0, misses=0)


def test_the_oldest_use_goes_first(disk: Disk, sd: Pipeline, size: int) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=2 * size, device_bytes=0)
    one, two, three = (disk.make(seed) for seed in range(3))
    for adapter in (one, two, one, three):
        take(shelf, sd, adapter)
    assert (shelf.residency()["host"].adapters, shelf.residency()["host"].size_bytes) == (2, 2 * size)
    for adapter in (one, three):
        disk.path(adapter).unlink()
        take(shelf, sd, adapter)
    assert shelf.residency()["host"].misses == 3


def test_what_is_in_use_stays(disk: Disk, sd: Pipeline, size: int) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=size, device_bytes=0)
    one, two, three = (disk.make(seed) for seed in range(3))
    with shelf.use([one, two], model=MODEL, pipeline=sd, device=sd.device) as held:
        take(shelf, sd, three)
        take(shelf, sd, three)
        assert shelf.residency()["host"].size_bytes == 2 * size
        assert take(shelf, sd, one) is held[one.sha256]
        with shelf.use([two], model=MODEL, pipeline=sd, device=sd.device) as again:
            assert again == {two.sha256: held[two.sha256]}
    assert shelf.residency()["host"] == Residency(adapters=1, size_bytes=size, hits=2, misses=4)


def test_two_models_have_their_own(disk: Disk, sd: Pipeline) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=2**30, device_bytes=0)
    adapter = disk.make(1)
    found = take(shelf, sd, adapter)
    with shelf.use([adapter], model="another", pipeline=sd, device=sd.device) as other:
        assert other[adapter.sha256] is not found


def test_a_device_has_a_tier_above_the_host(disk: Disk, sd: Pipeline, size: int) -> None:
    sd.to("meta")  # a device of its own, which every machine has
    shelf = AdapterShelf(disk.cache, host_bytes=3 * size, device_bytes=size)
    one, two = disk.make(1), disk.make(2)
    found = take(shelf, sd, one)
    assert found.memory.device == torch.device("meta")
    assert take(shelf, sd, one) is found
    take(shelf, sd, two)
    assert take(shelf, sd, one) is not found
    held = shelf.residency()
    assert held["host"] == Residency(adapters=2, size_bytes=2 * size, hits=1, misses=2)
    assert held["device"] == Residency(adapters=1, size_bytes=size, hits=1, misses=3)
    with shelf.use([one], model=MODEL, pipeline=sd, device=sd.device):
        assert not shelf.free_device()
        assert shelf.residency()["device"].adapters == 1
    assert shelf.free_device()
    assert shelf.residency()["device"].size_bytes == 0


def test_a_broken_file_fails_this_time_only(disk: Disk, sd: Pipeline) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=2**30, device_bytes=0)
    good, bad = disk.make(1), disk.make(2)
    content = disk.path(bad).read_bytes()
    disk.path(bad).write_bytes(content[:-50])
    with pytest.raises(AdapterUnusable, match=bad.sha256):
        take(shelf, sd, good, bad)
    disk.path(bad).unlink()
    with pytest.raises(Unavailable):
        take(shelf, sd, bad)
    assert shelf.residency()["host"].adapters == 1
    disk.path(bad).write_bytes(content)
    with shelf.use([good, bad], model=MODEL, pipeline=sd, device=sd.device) as found:
        assert found.keys() == {good.sha256, bad.sha256}


def test_many_threads_at_once(disk: Disk, sd: Pipeline, size: int) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=3 * size, device_bytes=0)
    adapters = [disk.make(seed) for seed in range(6)]
    expected = {adapter.sha256: take(shelf, sd, adapter).memory.clone() for adapter in adapters}

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(15):
            chosen = chance.sample(adapters, chance.randint(1, 3))
            with shelf.use(chosen, model=MODEL, pipeline=sd, device=sd.device) as found:
                assert all(torch.equal(found[each.sha256].memory, expected[each.sha256]) for each in chosen)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, seed) for seed in range(6)]:
            done.result()
    held = shelf.residency()["host"]
    assert held.size_bytes == held.adapters * size
    assert held.adapters <= 3


def test_those_who_ask_together_read_together(disk: Disk, sd: Pipeline) -> None:
    shelf = AdapterShelf(disk.cache, host_bytes=2**30, device_bytes=0)
    adapter = disk.make(1)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: take(shelf, sd, adapter), range(8)))
    assert len(found) == 1
    assert (shelf.residency()["host"].hits, shelf.residency()["host"].misses) == (7, 1)
