"""What the rows of a batch wear, stacked for each module that it changes."""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

import torch
from torch import Tensor

from worker.engine.adapter_change import Change, LowRank
from worker.engine.adapter_mix import Mix, is_mixable
from worker.engine.adapter_stack import RANK_STEP, DenseStack, LowRankStack
from worker.engine.adapter_weights import Layout

Stack: TypeAlias = LowRankStack | DenseStack
_ALIGNMENT = 8  # numbers; a row of the stacked memory begins where products are fast


class Outfit:
    """Row i of a batch wears `worn[i]`; a single mix is worn by all rows, however many.

    Args:
        worn: At least one of them wears something; where they differ, all are mixable.
        dtype: What most modules compute in.
        device: And where.
    """

    def __init__(self, worn: Sequence[Mix], *, dtype: torch.dtype, device: torch.device) -> None:
        self.worn = tuple(worn)
        parts = self._parts()
        self._layout = _shared_layout(parts)
        self._memory: Tensor | None = None
        if self._layout is None:
            self.stacks: Mapping[str, Stack] = {
                name: self._stack(changes, name) for name in _names(parts) if any(changes := _changes(parts, name))
            }
            return
        self._memory = torch.empty(len(parts), _aligned(self._layout.size), dtype=dtype, device=device)
        lent = {name: self._low_rank_stack(name) for name in _names(parts) if _is_worn(parts, name)}
        self.stacks = lent
        self._copy(parts, self._layout, self._memory)
        for name, stack in lent.items():
            stack.lend(*self._layout.views(name, self._memory))

    @property
    def rows(self) -> int:
        """How many it is for."""
        return len(self.worn)

    def exchange(self, worn: Sequence[Mix]) -> None:
        """From now on they wear these, in the same memory: mixes of the same forms as before, none of them dense."""
        if tuple(worn) == self.worn:
            return
        self.worn = tuple(worn)
        parts = self._parts()
        if self._layout is not None and self._memory is not None:
            self._copy(parts, self._layout, self._memory)
        for stack in self.stacks.values():
            assert isinstance(stack, LowRankStack)
            stack.rewrite()

    def _stack(self, changes: Sequence[Sequence[tuple[Change, float]]], name: str) -> Stack:
        if all(isinstance(change, LowRank) for part in changes for change, _ in part):
            return self._low_rank_stack(name)
        return DenseStack(changes[0])

    def _low_rank_stack(self, name: str) -> LowRankStack:
        return LowRankStack(lambda: _low_rank(_changes(self._parts(), name)))

    def _parts(self) -> Sequence[Mix]:
        return self.worn[:: _rows_of_a_part(self.worn)]

    def _copy(self, parts: Sequence[Mix], layout: Layout, memory: Tensor) -> None:
        """A whole adapter at a time; what is worn with a weight is multiplied where it goes up."""
        for place, mix in zip(memory, parts, strict=True):
            numbers = mix[0].weights.numbers if mix else None
            if numbers is None:
                place.zero_()
            else:
                place[: layout.size].copy_(numbers, non_blocking=True)
        scales = {
            name: [mix[0].weights.scales[name] * mix[0].strength(name) if mix else 1.0 for mix in parts]
            for name in self.stacks
        }
        scaled = [name for name in scales if any(scale != 1 for scale in scales[name])]
        if scaled:
            factors = torch.tensor([scales[name] for name in scaled]).to(memory.device, non_blocking=True)
            for name, factor in zip(scaled, factors, strict=True):
                layout.views(name, memory)[1].mul_(factor[:, None, None])


def form_of(worn: Sequence[Mix]) -> Hashable:
    """Equal for what an outfit can be exchanged for; None where something has to be worked out."""
    if not all(is_mixable(mix) for mix in worn):
        return None
    step = _rows_of_a_part(worn) if worn else 0
    forms = {
        tuple((portion.weights.form, portion.weight == 0, portion.text_weight == 0) for portion in mix)
        for mix in worn[:: step or 1]
    }
    return (len(worn), step, frozenset(forms))


def _rows_of_a_part(worn: Sequence[Mix]) -> int:
    """How many rows one after the other always wear the same, as the two of a guided picture do."""
    return math.gcd(*(len(list(run)) for _, run in groupby(worn)))


def _names(parts: Sequence[Mix]) -> set[str]:
    return {
        name
        for mix in parts
        for portion in mix
        for changes in (portion.weights.layers, portion.weights.dense)
        for name in changes
    }


def _is_worn(parts: Sequence[Mix], name: str) -> bool:
    return any(portion.strength(name) != 0 for mix in parts for portion in mix)


def _changes(parts: Sequence[Mix], name: str) -> list[list[tuple[Change, float]]]:
    return [[found for portion in mix if (found := portion.change(name))] for mix in parts]


def _low_rank(changes: Sequence[Sequence[tuple[Change, float]]]) -> list[list[tuple[LowRank, float]]]:
    return [[(change, weight) for change, weight in part if isinstance(change, LowRank)] for part in changes]


def _shared_layout(parts: Sequence[Mix]) -> Layout | None:
    """Where the tensors lie in the memory of every adapter, if they all lie alike and nobody wears more than one.

    What is worn with no weight would be copied for nothing, as it is when a prompt is encoded; and odd ranks are
    filled up on the way.
    """
    portions = [portion for mix in parts for portion in mix]
    layouts = {portion.weights.layout for portion in portions}
    if len(layouts) > 1 or any(len(mix) > 1 for mix in parts) or any(portion.weight == 0 for portion in portions):
        return None
    layout = layouts.pop()
    return None if layout is None or any(rank % RANK_STEP for rank in layout.ranks) else layout


def _aligned(size: int) -> int:
    return size + -size % _ALIGNMENT
