"""Adapters in memory: the device's ← the host's ← the cache on disk, each bounded, the oldest use out first."""

import threading
from collections import OrderedDict
from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from core.domain.generation import ResolvedAdapter
from core.domain.holding import Residency
from worker.engine.adapter_cache import AdapterCache
from worker.engine.adapter_reader import Moulds, read_adapter
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline

Key: TypeAlias = tuple[Hashable, str]


class AdapterShelf:
    """Safe to share between threads. What is in use is never put away, even where that takes more than the bound.

    An adapter is kept for each model, by its content. A file that cannot be read fails who asked for it, and is read
    again for the next. On a CPU the two tiers are one.
    """

    def __init__(self, cache: AdapterCache, *, host_bytes: int, device_bytes: int) -> None:
        self._cache = cache
        self._host, self._device = _Tier(host_bytes), _Tier(device_bytes)
        self._in_use: dict[Key, _Use] = {}
        self._moulds = Moulds()
        self._lock = threading.Lock()

    @contextmanager
    def use(
        self, adapters: Sequence[ResolvedAdapter], *, model: Hashable, pipeline: Pipeline, device: torch.device
    ) -> Iterator[dict[str, AdapterWeights]]:
        """These adapters by digest, on the device, and not put away before the context is left.

        `model` stands for all pipelines of the same weights. Blocks while what is missing is fetched and read.

        Raises:
            AdapterUnusable: one does not fit the model, or its file is gone.
            Unavailable: the object store is not reachable.
        """
        named = {(model, adapter.sha256): adapter for adapter in adapters}
        with self._lock:
            for key in named:
                self._in_use.setdefault(key, _Use()).count += 1
        try:
            yield {key[1]: self._bring(key, adapter, pipeline, device) for key, adapter in named.items()}
        finally:
            self._release(named)

    def fetch(self, adapters: Sequence[ResolvedAdapter]) -> None:
        """Bring the files to the disk.

        Raises:
            AdapterUnusable: one is gone.
            Unavailable: the object store is not reachable.
        """
        for adapter in adapters:
            self._cache.fetch(sha256=adapter.sha256, object_key=adapter.object_key)

    def free_device(self) -> bool:
        """Put away from the device what is not in use; whether there was anything."""
        with self._lock:
            return self._device.shrink(0, kept=self._in_use)

    def residency(self) -> dict[str, Residency]:
        """By tier: host and device."""
        with self._lock:
            return {"host": self._host.residency(), "device": self._device.residency()}

    def _bring(self, key: Key, adapter: ResolvedAdapter, pipeline: Pipeline, device: torch.device) -> AdapterWeights:
        with self._lock:
            use = self._in_use[key]
        with use.lock:  # who else asks for it waits, and finds it
            if device.type == "cpu":
                return self._on_host(key, adapter, pipeline, pin=False)
            with self._lock:
                found = self._device.find(key)
            if found is None:
                found = self._on_host(key, adapter, pipeline, pin=device.type == "cuda").to(device)
                with self._lock:
                    self._device.keep(key, found, kept=self._in_use)
            return found

    def _on_host(self, key: Key, adapter: ResolvedAdapter, pipeline: Pipeline, *, pin: bool) -> AdapterWeights:
        with self._lock:
            found = self._host.find(key)
        if found is None:
            file = self._cache.fetch(sha256=adapter.sha256, object_key=adapter.object_key)
            found = read_adapter(file, pipeline, sha256=adapter.sha256, pin=pin, moulds=self._moulds)
            with self._lock:
                self._host.keep(key, found, kept=self._in_use)
        return found

    def _release(self, keys: Iterable[Key]) -> None:
        with self._lock:
            for key in keys:
                self._in_use[key].count -= 1
                if self._in_use[key].count == 0:
                    del self._in_use[key]
            for tier in (self._host, self._device):
                tier.shrink(tier.max_bytes, kept=self._in_use)


@dataclass
class _Use:
    """An adapter in use: by how many, and who may bring it."""

    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Tier:
    """For one thread at a time."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Key, AdapterWeights] = OrderedDict()
        self._size_bytes = self._hits = self._misses = 0

    def find(self, key: Key) -> AdapterWeights | None:
        found = self._held.get(key)
        if found is None:
            self._misses += 1
        else:
            self._hits += 1
            self._held.move_to_end(key)
        return found

    def keep(self, key: Key, weights: AdapterWeights, *, kept: Container[Key]) -> None:
        self._held[key] = weights
        self._size_bytes += weights.size_bytes
        self.shrink(self.max_bytes, kept=kept)

    def shrink(self, size_bytes: int, *, kept: Container[Key]) -> bool:
        before = self._size_bytes
        for key in [key for key in self._held if key not in kept]:
            if self._size_bytes <= size_bytes:
                break
            self._size_bytes -= self._held.pop(key).size_bytes
        return self._size_bytes < before

    def residency(self) -> Residency:
        return Residency(len(self._held), self._size_bytes, self._hits, self._misses)
