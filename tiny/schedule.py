"""How the learning rate goes over a run, and how weights are averaged."""

import math

import torch
from torch import nn

_RISE = 0.08  # share of the run
_START = 0.04  # of the peak


def set_rate(optimizer: torch.optim.Optimizer, *, peak: float, progress: float) -> None:
    """One cycle: up along half a cosine, then down to nothing. Progress goes from 0 to 1."""
    if progress < _RISE:
        level = _START + (1 - _START) * (1 - math.cos(math.pi * progress / _RISE)) / 2
    else:
        level = (1 + math.cos(math.pi * (progress - _RISE) / (1 - _RISE))) / 2
    for group in optimizer.param_groups:
        group["lr"] = peak * level


@torch.no_grad()
def average(target: nn.Module, source: nn.Module, *, decay: float, step: int) -> None:
    """Move the average towards the source; quickly at first, so that early averages are of use."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), weight)
