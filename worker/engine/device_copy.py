"""Copies to and from a CUDA device, beside what it computes."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def upload(memory: Tensor, device: torch.device) -> Tensor:
    """The same on a device; waits until it is there, and nobody else does."""
    if device.type != "cuda":
        return memory.to(device)
    stream = _stream(device)
    with torch.cuda.stream(stream):
        there = memory.to(device, non_blocking=True)
    there.record_stream(torch.cuda.default_stream(device))
    stream.synchronize()
    return there


class Download:
    """What a device is about to have computed, to be fetched by whichever thread needs it."""

    def __init__(self, found: Tensor) -> None:
        self._found = found
        self._computed = torch.cuda.Event(blocking=True) if found.is_cuda else None
        if self._computed is not None:
            self._computed.record()

    def fetch(self) -> Tensor:
        """It, on the host; waits until it is computed, but for nothing that was asked of the device later."""
        if self._computed is None:
            return self._found.cpu()
        self._computed.synchronize()
        with torch.cuda.stream(_stream(self._found.device)):
            return self._found.cpu()
