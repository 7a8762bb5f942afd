"""An adapter's file → what it does to each module of a pipeline, in one piece of memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from core.domain.errors import AdapterUnusable
from core.domain.lora_key import is_of_denoiser
from worker.engine.adapter_change import (
    Biased,
    Change,
    Decomposed,
    Full,
    Hadamard,
    Kronecker,
    LowRank,
    moved,
    tensors_of,
)
from worker.engine.adapter_file import read_file
from worker.engine.adapter_key import ModuleParts, parts_of
from worker.engine.device_copy import upload
from worker.engine.pipeline import Pipeline, is_out_of_memory

_ALIGNMENT = 16  # bytes; no tensor begins inside another one's word
_LEAST_FILLED = 0.95  # of the memory that is kept


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

    `dense` are the changes that are no product of low rank: whoever wears them has a batch of his own.
    """

    layers: Mapping[str, LowRank]
    dense: Mapping[str, Change]
    memory: Tensor = field(repr=False)

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
    def form(self) -> str:
        """Equal for adapters that differ in numbers only, and in what they are scaled by."""
        shapes = [(name, change.down.shape, change.up.shape) for name, change in sorted(self.layers.items())]
        return sha256(repr(self.layout or shapes).encode()).hexdigest()

    @cached_property
    def layout(self) -> Layout | None:
        """None where its numbers are of several kinds, or some change is not of low rank."""
        if self.numbers is None:
            return None
        first = self.numbers.storage_offset()

        def place(tensor: Tensor) -> tuple[int, torch.Size]:
            return int(tensor.storage_offset() - first), tensor.shape

        return Layout(
            len(self.numbers),
            tuple((name, *place(change.down), *place(change.up)) for name, change in self.layers.items()),
        )

    @cached_property
    def numbers(self) -> Tensor | None:
        """All of them as they lie in memory, where they are of one kind."""
        tensors = [tensor for change in self.layers.values() for tensor in tensors_of(change)]
        if self.dense or len({tensor.dtype for tensor in tensors}) != 1:
            return None
        size = tensors[0].element_size()
        first = min(tensor.storage_offset() for tensor in tensors)
        end = max(tensor.storage_offset() + tensor.numel() for tensor in tensors)
        return self.memory[first * size : end * size].view(tensors[0].dtype)

    def to(self, device: torch.device) -> "AdapterWeights":
        """The same on another device, copied in one piece; itself if it is there."""
        if self.memory.device == device:
            return self
        memory = upload(self.memory, device)
        layers = {name: moved(change, lambda tensor: _at(memory, tensor)) for name, change in self.layers.items()}
        dense = {name: moved(change, lambda tensor: _at(memory, tensor)) for name, change in self.dense.items()}
        return AdapterWeights(layers, dense, memory)


def read_adapter(file: Path, pipeline: Pipeline, *, sha256: str, pin: bool = False) -> AdapterWeights:
    """Read LoRA, DoRA, LoHa, LoKr or full differences in PEFT's, diffusers' or kohya's names, into memory of its own.

    As with diffusers, modules that the pipeline does not have are passed over as long as others fit. `pin` takes
    memory that a GPU copies from faster.

    Raises:
        AdapterUnusable: it does not fit the pipeline, or is no such file. The pipeline is only looked at.
    """
    try:
        content = read_file(file, pin=pin)
        changes = _changes(parts_of(content.tensors, content.metadata, pipeline), pipeline)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise AdapterUnusable(f"The adapter sha256:{sha256} does not fit this model: {reason}") from error
    if not changes:
        raise AdapterUnusable(f"The adapter sha256:{sha256} has nothing that fits this model.")
    if _fills(changes, content.memory):
        return _weights(changes, content.memory)
    return _packed(changes, pin=pin)


def _changes(parts: Mapping[str, ModuleParts], pipeline: Pipeline) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for component in pipeline._lora_loadable_modules:
        modules = dict(getattr(pipeline, component).named_modules())
        own = {name: each for name, each in parts.items() if name.startswith(f"{component}.")}
        fitting = {name: modules[path] for name in own if (path := name.partition(".")[2]) in modules}
        if own and not fitting:
            raise ValueError(f"the model has no {next(iter(own))}")
        for name, module in fitting.items():
            if not isinstance(module, nn.Linear | nn.Conv2d) or getattr(module, "groups", 1) != 1:
                raise ValueError(f"{name} is a {type(module).__name__}, which no adapter can change")
            changes[name] = _change(name, own[name], module.weight.shape)
    return changes


def _change(name: str, parts: ModuleParts, shape: torch.Size) -> Change:
    """Raises ValueError: the parts do not make a change of this shape."""
    tensors = parts.tensors
    try:
        change = _product(parts, shape)
        magnitude = tensors.get("dora_scale", tensors.get("magnitude"))
        if magnitude is not None:
            if magnitude.dim() == 1 or "magnitude" in tensors:  # PEFT's is that of the outputs, whatever its shape
                magnitude = magnitude.reshape(-1, *[1] * (len(shape) - 1))
            change = Decomposed(change, magnitude)
        if "bias" in tensors:
            change = Biased(change, tensors["bias"])
        if not isinstance(change, LowRank):
            # Whether it fits is seen on a device where nothing is worked out.
            moved(change, lambda tensor: tensor.to("meta")).delta(shape)
    except KeyError as error:
        raise ValueError(f"{name} lacks its {error.args[0]}") from error
    except RuntimeError as error:
        shapes = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in tensors.items() if part != "alpha")
        raise ValueError(f"{name} is {tuple(shape)}, which {shapes} cannot change") from error
    return change


def _product(parts: ModuleParts, shape: torch.Size) -> Change:
    tensors = parts.tensors
    if "down" in tensors or "up" in tensors:
        return _low_rank(parts, shape)
    if any(part.startswith("hada_") for part in tensors):
        a1, b1, a2, b2 = (tensors[f"hada_{part}"] for part in ("w1_a", "w1_b", "w2_a", "w2_b"))
        core1, core2 = tensors.get("hada_t1"), tensors.get("hada_t2")
        return Hadamard(a1, b1, a2, b2, core1, core2, _scale(parts, b1.shape[0]))
    if any(part.startswith("lokr_") for part in tensors):
        left_b, right_b = tensors.get("lokr_w1_b"), tensors.get("lokr_w2_b")
        left = tensors["lokr_w1" if left_b is None else "lokr_w1_a"]
        right = tensors["lokr_w2" if right_b is None else "lokr_w2_a"]
        # LyCORIS: without a rank there is no alpha.
        inner = left_b if right_b is None else right_b
        scale = 1.0 if inner is None else _scale(parts, inner.shape[0])
        return Kronecker(left, left_b, right, right_b, tensors.get("lokr_t2"), scale)
    if "diff" in tensors or "bias" in tensors:
        return Full(tensors["diff"])
    raise KeyError("lora_down")


def _low_rank(parts: ModuleParts, shape: torch.Size) -> LowRank:
    down, up = parts.tensors["down"], parts.tensors["up"].flatten(1)
    rank = up.shape[1]
    if parts.rank not in (None, rank):
        raise RuntimeError
    if "mid" in parts.tensors:  # LyCORIS' Tucker form of a convolution, which is a wider one of low rank
        down = torch.einsum("ijkl,jc->ickl", parts.tensors["mid"].float(), down.float().flatten(1)).to(up.dtype)
    if down.dim() != len(shape) and down[0].numel() == shape[1] == shape[1:].numel():
        down = down.reshape(-1, *shape[1:])  # a 1x1 convolution is a linear layer
    if down.shape != (rank, *shape[1:]) or up.shape[0] != shape[0]:
        raise RuntimeError
    return LowRank(down, up, _scale(parts, rank))


def _scale(parts: ModuleParts, rank: int) -> float:
    if parts.scale is not None:
        return parts.scale
    # kohya-ss/sd-scripts, networks/lora.py: an alpha of 0 or none is the rank.
    alpha = float(parts.tensors["alpha"]) if "alpha" in parts.tensors else 0.0
    return alpha / rank if alpha else 1.0


def _fills(changes: Mapping[str, Change], memory: Tensor) -> bool:
    """Whether the changes are pieces of this memory, and nearly all of it."""
    tensors = [tensor for change in changes.values() for tensor in tensors_of(change)]
    storage = memory.untyped_storage().data_ptr()
    are_pieces = all(tensor.untyped_storage().data_ptr() == storage and tensor.is_contiguous() for tensor in tensors)
    return are_pieces and sum(tensor.nbytes for tensor in tensors) >= _LEAST_FILLED * memory.nbytes


def _packed(changes: Mapping[str, Change], *, pin: bool) -> AdapterWeights:
    sizes = [tensor.nbytes for change in changes.values() for tensor in tensors_of(change)]
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    memory = torch.empty(end, dtype=torch.uint8, pin_memory=pin)
    start = iter(starts)

    def copy(tensor: Tensor) -> Tensor:
        first = next(start)
        place = memory[first : first + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        return place.copy_(tensor)

    return _weights({name: moved(change, copy) for name, change in changes.items()}, memory)


def _weights(changes: Mapping[str, Change], memory: Tensor) -> AdapterWeights:
    layers = {name: change for name, change in changes.items() if isinstance(change, LowRank)}
    return AdapterWeights(layers, {name: changes[name] for name in changes if name not in layers}, memory)


def _at(memory: Tensor, tensor: Tensor) -> Tensor:
    """The same tensor in another copy of the memory it is a piece of."""
    start = tensor.storage_offset() * tensor.element_size()
    return memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
