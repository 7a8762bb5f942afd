"""How long calls take on a device, which may still be at work when a call returns."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_AHEAD = 1
"""Calls that may wait on a CUDA device while another runs: it never idles, and who comes joins at the next but one."""


class Stopwatch:
    """For one thread only."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._running: deque[tuple[torch.cuda.Event, torch.cuda.Event, Callable[[float], None]]] = deque()

    @contextmanager
    def timing(self, tell: Callable[[float], None]) -> Iterator[None]:
        """Tell the seconds that the device needs for what is asked of it inside, once they are known.

        Waits first until the device has come so far that no more than `_AHEAD` earlier calls are left.
        """
        if not self._is_cuda:
            start = time.perf_counter()
            yield
            tell(time.perf_counter() - start)
            return
        self._settle()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._running.append((begin, end, tell))

    def _settle(self) -> None:
        while len(self._running) > _AHEAD:
            begin, end, tell = self._running.popleft()
            end.synchronize()
            tell(begin.elapsed_time(end) / 1e3)
