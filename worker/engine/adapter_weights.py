"""What an adapter does to each module of a pipeline, in one piece of memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TypeVar

import torch
from torch import Tensor

from core.domain.lora_key import is_of_denoiser
from worker.engine.adapter_change import Change, LowRank, moved, tensors_of
from worker.engine.device_copy import upload

C = TypeVar("C")


@dataclass(frozen=True)
class Layout:
    """Where the tensors of an adapter lie among its `size` numbers, which are all of one kind."""

    size: int
    places: tuple[tuple[str, int, torch.Size, int, torch.Size], ...]
    """By module: where its `down` begins, and its shape, and the same of its `up`."""

    def views(self, name: str, memory: Tensor) -> tuple[Tensor, Tensor]:
        """A module's stacks (parts, rank, in…) and (parts, out, rank) in the numbers of each part (parts, size)."""
        down, down_shape, up, up_shape = self._by_name[name]
        return (
            memory[:, down : down + down_shape.numel()].unflatten(1, down_shape),
            memory[:, up : up + up_shape.numel()].unflatten(1, up_shape),
        )

    @cached_property
    def ranks(self) -> frozenset[int]:
        """Every rank among the modules."""
        return frozenset(up_shape[1] for *_, up_shape in self.places)

    @cached_property
    def _by_name(self) -> dict[str, tuple[int, torch.Size, int, torch.Size]]:
        return {name: (down, down_shape, up, up_shape) for name, down, down_shape, up, up_shape in self.places}


@dataclass(frozen=True, eq=False)
class AdapterWeights:
    """What an adapter does to each module, named "<component>.<module>". Never altered; equal to itself only.

    `dense` are the changes that are no product of low rank: whoever wears them has a batch of his own. `cast_in` is
    the mould of those that were made in one.
    """

    layers: Mapping[str, LowRank]
    dense: Mapping[str, Change]
    memory: Tensor = field(repr=False)
    cast_in: "AdapterWeights | None" = field(default=None, repr=False)

    @property
    def size_bytes(self) -> int:
        """How much memory it takes."""
        return self.memory.numel()

    @property
    def is_mixable(self) -> bool:
        """Whether others may share a batch with it."""
        return not self.dense

    @property
    def changes_text(self) -> bool:
        """Whether prompts are understood differently under it."""
        return not all(is_of_denoiser(name) for changes in (self.layers, self.dense) for name in changes)

    @cached_property
    def mould(self) -> "AdapterWeights":
        """The same without its numbers: what is worked out of it holds for all that are cast in it."""
        if self.cast_in is not None or self.memory.is_meta:
            return self.cast_in or self
        memory = self.memory.to("meta")
        return AdapterWeights(dict(_Cast(self.layers, memory)), dict(_Cast(self.dense, memory)), memory)

    def cast(self, memory: Tensor) -> "AdapterWeights":
        """Other numbers in the same form: `memory` is laid out as this one's."""
        mould = self.mould
        return AdapterWeights(_Cast(mould.layers, memory), _Cast(mould.dense, memory), memory, mould)

    @property
    def form(self) -> str:
        """Equal for adapters that differ in numbers only, and in what they are scaled by."""
        return self.mould._form

    @property
    def layout(self) -> Layout | None:
        """None where its numbers are of several kinds, or some change is not of low rank."""
        return self.mould._layout

    @property
    def scales(self) -> Mapping[str, float]:
        """What the products of low rank are multiplied with, by module."""
        return self.mould._scales

    @cached_property
    def numbers(self) -> Tensor | None:
        """All of them as they lie in memory, where they are of one kind."""
        if self.mould._span is None:
            return None
        first, end, dtype = self.mould._span
        return self.memory[first * dtype.itemsize : end * dtype.itemsize].view(dtype)

    def to(self, device: torch.device) -> "AdapterWeights":
        """The same on another device, copied in one piece; itself if it is there."""
        return self if self.memory.device == device else self.cast(upload(self.memory, device))

    @cached_property
    def _form(self) -> str:
        shapes = [(name, change.down.shape, change.up.shape) for name, change in sorted(self.layers.items())]
        return sha256(repr(self._layout or shapes).encode()).hexdigest()

    @cached_property
    def _layout(self) -> Layout | None:
        if self._span is None:
            return None
        first, end, _ = self._span

        def place(tensor: Tensor) -> tuple[int, torch.Size]:
            return int(tensor.storage_offset() - first), tensor.shape

        return Layout(
            end - first,
            tuple((name, *place(change.down), *place(change.up)) for name, change in self.layers.items()),
        )

    @cached_property
    def _scales(self) -> Mapping[str, float]:
        return {name: change.scale for name, change in self.layers.items()}

    @cached_property
    def _span(self) -> tuple[int, int, torch.dtype] | None:
        """Where its numbers begin and end, counted in numbers, and their kind, if it is one."""
        tensors = [tensor for change in self.layers.values() for tensor in tensors_of(change)]
        if self.dense or len({tensor.dtype for tensor in tensors}) != 1:
            return None
        first = min(tensor.storage_offset() for tensor in tensors)
        end = max(tensor.storage_offset() + tensor.numel() for tensor in tensors)
        return int(first), int(end), tensors[0].dtype


class _Cast(Mapping[str, C]):
    """The same changes in another memory, each made when it is asked for: a whole adapter is often copied at once."""

    def __init__(self, changes: Mapping[str, C], memory: Tensor) -> None:
        self._changes, self._memory = changes, memory

    def __getitem__(self, name: str) -> C:
        return moved(self._changes[name], lambda tensor: _at(self._memory, tensor))

    def __contains__(self, name: object) -> bool:
        return name in self._changes

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)


def _at(memory: Tensor, tensor: Tensor) -> Tensor:
    """The same tensor in another copy of the memory it is a piece of."""
    start = tensor.storage_offset() * tensor.element_size()
    return memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
