"""What the rows of a batch wear on one module, stacked: added to what the module says, row by row."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.domain.errors import AdapterUnusable
from worker.engine.adapter_change import Biased, Change, LowRank, worn_weight

RANK_STEP = 8
"""Ranks are filled up to a multiple of it. A GPU's products of halves take eight numbers at a time, and so do a CPU's
convolutions: one of rank 13 took 3.6 times as long as one of rank 16."""


class LowRankStack:
    """Products of low rank, different ones for each part of a batch; a forward hook of a Linear or a Conv2d.

    Args:
        worn: What the rows of each equal part of the batch wear now, in order, each with its weight.
    """

    def __init__(self, worn: Callable[[], Sequence[Sequence[tuple[LowRank, float]]]]) -> None:
        self._worn = worn
        self._down: Tensor | None = None
        self._up: Tensor | None = None
        self._is_lent = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """`output` with the changes added, in place where it can be."""
        self.prepare(output)
        assert self._down is not None
        assert self._up is not None
        inputs = args[0].to(output.dtype)
        if isinstance(module, nn.Conv2d):
            return _add_to_convolution(module, inputs, output, self._down, self._up)
        return _add_to_linear(inputs, output, self._down, self._up)

    def lend(self, down: Tensor, up: Tensor) -> None:
        """Stacks (parts, rank, in…) and (parts, out, rank) that somebody else writes to."""
        self._down, self._up, self._is_lent = down, up, True

    def rewrite(self) -> None:
        """What is worn has changed, to the same ranks: it goes to the same memory."""
        if self._down is not None and self._up is not None and not self._is_lent:
            self._down.zero_()
            self._up.zero_()
            self._write()

    def prepare(self, like: Tensor) -> None:
        """Stack what is worn, on the device and in the numbers of `like`; what has less rank ends in zeros."""
        if self._down is not None and self._up is not None and self._up.dtype == like.dtype:
            return
        parts = self._worn()
        some = next(change for part in parts for change, _ in part)
        rank = max(sum(change.rank for change, _ in part) for part in parts)
        rank += -rank % RANK_STEP
        self._down = like.new_zeros(len(parts), rank, *some.down.shape[1:])
        self._up = like.new_zeros(len(parts), some.up.shape[0], rank)
        self._is_lent = False
        self._write()

    def _write(self) -> None:
        assert self._down is not None
        assert self._up is not None
        for index, part in enumerate(self._worn()):
            start = 0
            for change, weight in part:
                end = start + change.rank
                self._down[index, start:end].copy_(change.down, non_blocking=True)
                scale = change.scale * weight
                # Rounded once, after the scale: alpha over rank takes small halves to where they have few digits.
                scaled = change.up if scale == 1 else change.up.to(self._up.device).float() * scale
                self._up[index, :, start:end].copy_(scaled, non_blocking=True)
                start = end


class DenseStack:
    """Changes that have to be worked out, the same for all rows; a forward hook of a Linear or a Conv2d."""

    def __init__(self, worn: Sequence[tuple[Change, float]]) -> None:
        self._worn = worn
        self._delta: Tensor | None = None

    def __call__(self, module: nn.Linear | nn.Conv2d, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """`output` with the changes added."""
        if self._delta is None or self._delta.dtype != output.dtype:
            self._delta = self._work_out(module, output)
        inputs = args[0].to(output.dtype)
        shift = sum(
            change.shift.to(output.device, output.dtype) * weight
            for change, weight in self._worn
            if isinstance(change, Biased)
        )
        bias = shift if isinstance(shift, Tensor) else None
        if isinstance(module, nn.Linear):
            return output + functional.linear(inputs, self._delta, bias)
        return output + functional.conv2d(inputs, self._delta, bias, module.stride, module.padding, module.dilation)

    def _work_out(self, module: nn.Linear | nn.Conv2d, output: Tensor) -> Tensor:
        if module.weight.is_meta:
            raise AdapterUnusable("An adapter that is not of low rank needs the model's weights to stay on the device.")
        base = module.weight.detach().to(output.device)
        return (worn_weight(base, self._worn) - base).to(output.dtype)


def _add_to_linear(inputs: Tensor, output: Tensor, down: Tensor, up: Tensor) -> Tensor:
    parts = len(down)
    flat = output.reshape(parts, -1, output.shape[-1])
    inner = torch.bmm(inputs.reshape(parts, -1, inputs.shape[-1]), down.transpose(1, 2))
    return flat.baddbmm_(inner, up.transpose(1, 2)).view_as(output)


def _add_to_convolution(module: nn.Conv2d, inputs: Tensor, output: Tensor, down: Tensor, up: Tensor) -> Tensor:
    parts, rank = down.shape[:2]
    rows = len(inputs)
    if module.kernel_size == (1, 1) and module.stride == (1, 1) and module.padding in ((0, 0), "valid"):
        inner = torch.bmm(_per_row(down.flatten(2), rows), inputs.flatten(2))
    else:
        # One group for each part: (parts, rows of a part, …) → (rows of a part, parts · channels, …).
        grouped = inputs.unflatten(0, (parts, -1)).transpose(0, 1).flatten(1, 2)
        found = functional.conv2d(
            grouped, down.flatten(0, 1), None, module.stride, module.padding, module.dilation, groups=parts
        )
        inner = found.unflatten(1, (parts, rank)).transpose(0, 1).reshape(rows, rank, -1)
    flat = output.reshape(rows, output.shape[1], -1)
    return flat.baddbmm_(_per_row(up, rows), inner).view_as(output)


def _per_row(stack: Tensor, rows: int) -> Tensor:
    parts = len(stack)
    return stack if rows == parts else stack.repeat_interleave(rows // parts, dim=0)
