"""A LoRA for each row of a batch: what the rows of the next forwards wear, and nothing of it left afterwards."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from torch import nn
from torch.utils.hooks import RemovableHandle

from core.domain.generation import ResolvedAdapter
from core.domain.lora_key import is_of_denoiser
from worker.engine.adapter_change import Change, LowRank, scales
from worker.engine.adapter_stack import DenseStack, LowRankStack
from worker.engine.adapter_weights import AdapterWeights
from worker.engine.pipeline import Pipeline

_KEPT = 2
"""Compositions whose stacks are kept. Each holds its own copy of what its rows wear."""


@dataclass(frozen=True)
class Portion:
    """An adapter with the weights it is worn with, in the denoiser and in the text encoders."""

    weights: AdapterWeights
    weight: float
    text_weight: float

    def change(self, name: str) -> tuple[Change, float] | None:
        """What it does to a module, and how much of it; None where it does nothing."""
        change = self.weights.layers.get(name) or self.weights.dense.get(name)
        strength = self.weight if is_of_denoiser(name) else self.text_weight
        if change is None or (strength == 0 and not scales(change)):
            return None
        return change, strength


Mix: TypeAlias = tuple[Portion, ...]
"""What one row wears; () is the bare base."""


def mix_of(adapters: Sequence[ResolvedAdapter], weights: Mapping[str, AdapterWeights]) -> Mix:
    """The mix that a request asks for, `weights` by digest. Of an adapter named twice the weights add up."""
    mix: dict[str, Portion] = {}
    for adapter in adapters:
        known = mix.get(adapter.sha256, Portion(weights[adapter.sha256], 0.0, 0.0))
        mix[adapter.sha256] = Portion(
            known.weights, known.weight + adapter.weight, known.text_weight + adapter.text_encoder_weight
        )
    return tuple(mix.values())


def text_state(mix: Mix) -> Hashable:
    """What prompts' embeddings depend on: equal for mixes under which the text encoders say the same."""
    return tuple((portion.weights, portion.text_weight) for portion in mix if portion.weights.changes_text)


def is_mixable(mix: Mix) -> bool:
    """Whether rows that wear something else may be in the same batch."""
    return all(portion.weights.is_mixable for portion in mix)


class AdapterRows:
    """Dresses the rows of a pipeline's forwards. For one thread only.

    Where nobody wears anything a module is as it was, hooks and all. Base weights are never touched.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._modules: dict[str, nn.Module] = {
            f"{component}.{path}": module
            for component in pipeline._lora_loadable_modules
            for path, module in getattr(pipeline, component).named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        self._known: OrderedDict[tuple[Mix, ...], dict[str, _Worn]] = OrderedDict()
        self._worn: tuple[Mix, ...] = ()
        self._hooks: list[RemovableHandle] = []

    def wear(self, mixes: Sequence[Mix]) -> None:
        """From now on row i of every input wears `mixes[i]`; a single one is worn by all rows, however many.

        Cheap where nothing changes. Raises ValueError: rows with different mixes, and one of them is not mixable.
        """
        worn = tuple(mixes)
        if all(mix == worn[0] for mix in worn):
            worn = worn[:1]
        elif not all(is_mixable(mix) for mix in worn):
            raise ValueError("An adapter that is not of low rank takes a batch of its own.")
        if not any(worn):
            worn = ()
        if worn != self._worn:
            self._take_off()
            self._put_on(worn)

    def forget(self) -> None:
        """Take everything off, and keep no copy of what was worn."""
        self._take_off()
        self._known.clear()

    def _put_on(self, worn: tuple[Mix, ...]) -> None:
        if worn:
            if worn not in self._known:
                self._make_room(worn)
                self._known[worn] = self._compose(worn)
            self._known.move_to_end(worn)
            for name, each in self._known[worn].items():
                self._hooks.append(self._modules[name].register_forward_hook(each))
        self._worn = worn

    def _take_off(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._worn = [], ()

    def _make_room(self, worn: tuple[Mix, ...]) -> None:
        # What is worked out is as large as the modules it changes.
        if not all(is_mixable(mix) for mixes in (worn, *self._known) for mix in mixes):
            self._known.clear()
        while len(self._known) >= _KEPT:
            self._known.popitem(last=False)

    def _compose(self, worn: tuple[Mix, ...]) -> dict[str, "_Worn"]:
        parts = worn[:: _rows_of_a_part(worn)]
        names = {
            name
            for mix in parts
            for portion in mix
            for changes in (portion.weights.layers, portion.weights.dense)
            for name in changes
        }
        composed: dict[str, _Worn] = {}
        for name in names:
            changes = [[found for portion in mix if (found := portion.change(name))] for mix in parts]
            if any(changes):
                composed[name] = _Worn(len(worn), _stack(changes))
        return composed


class _Worn:
    """The forward hook of one module in one composition."""

    def __init__(self, rows: int, stack: Callable[..., Any]) -> None:
        self._rows = rows
        self._stack = stack

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._rows > 1 and len(args[0]) != self._rows:
            raise RuntimeError(f"{self._rows} rows are dressed, and {len(args[0])} came.")
        return self._stack(module, args, output)


def _rows_of_a_part(worn: tuple[Mix, ...]) -> int:
    """How many rows one after the other always wear the same, as the two of a guided picture do."""
    return math.gcd(*(len(list(run)) for _, run in groupby(worn)))


def _stack(changes: Sequence[Sequence[tuple[Change, float]]]) -> LowRankStack | DenseStack:
    low_rank = [[(change, weight) for change, weight in part if isinstance(change, LowRank)] for part in changes]
    if [len(part) for part in low_rank] == [len(part) for part in changes]:
        return LowRankStack(low_rank)
    return DenseStack(changes[0])
