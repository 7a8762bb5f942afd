"""An adapter's file → what it does to each module of a pipeline, in the memory that the file was read into."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from core.domain.errors import AdapterUnusable
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
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline, is_out_of_memory

_ALIGNMENT = 16  # bytes; no tensor begins inside another one's word
_LEAST_FILLED = 0.95  # of the memory that is kept
_MOULDS = 16  # of a pipeline; each takes about as much as its names
_NUMBER = ".alpha"  # a tensor that is read and not kept: the outline alone does not tell the scale


class Moulds:
    """What the files read last mean to each pipeline: adapters whose files have one outline are cast in one mould.

    Safe to share between threads. A pipeline's moulds go with it.
    """

    def __init__(self) -> None:
        self._by_pipeline: WeakKeyDictionary[Pipeline, OrderedDict[Hashable, AdapterWeights]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def find(self, pipeline: Pipeline, outline: Hashable) -> AdapterWeights | None:
        """The mould of adapters whose files have this outline, if it is known."""
        with self._lock:
            known = self._by_pipeline.get(pipeline, OrderedDict())
            if outline in known:
                known.move_to_end(outline)
            return known.get(outline)

    def keep(self, pipeline: Pipeline, outline: Hashable, mould: AdapterWeights) -> None:
        """Remember a mould, in place of the one that was needed longest ago where there are many."""
        with self._lock:
            known = self._by_pipeline.setdefault(pipeline, OrderedDict())
            known[outline] = mould
            while len(known) > _MOULDS:
                known.popitem(last=False)


def read_adapter(
    file: Path, pipeline: Pipeline, *, sha256: str, pin: bool = False, moulds: Moulds | None = None
) -> AdapterWeights:
    """Read LoRA, DoRA, LoHa, LoKr or full differences in PEFT's, diffusers' or kohya's names, into memory of its own.

    As with diffusers, modules that the pipeline does not have are passed over as long as others fit. `pin` takes
    memory that a GPU copies from faster. `moulds` remember what outlines mean.

    Raises:
        AdapterUnusable: it does not fit the pipeline, or is no such file. The pipeline is only looked at.
    """
    try:
        content = read_file(file, pin=pin)
        mould = None if moulds is None else moulds.find(pipeline, content.outline)
        if mould is not None:
            return mould.cast(content.memory)
        changes = _changes(parts_of(content.tensors, content.metadata, pipeline), pipeline)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise AdapterUnusable(f"The adapter sha256:{sha256} does not fit this model: {reason}") from error
    if not changes:
        raise AdapterUnusable(f"The adapter sha256:{sha256} has nothing that fits this model.")
    if not _fills(changes, content.memory):
        return _packed(changes, pin=pin)
    found = _weights(changes, content.memory)
    if moulds is not None and not any(name.endswith(_NUMBER) for name in content.tensors):
        moulds.keep(pipeline, content.outline, found.mould)
    return found


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
