"""How many rows of a shape fit into one call: by the memory that calls of it took."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch

_KEPT_FREE = 0.1  # of the memory that is free
_FIRST_ROWS = 2


class Room:
    """On a CUDA device what a call takes is measured, beginning with few rows; elsewhere `most_rows` is the bound.

    A shape that did not fit is never again asked for as many rows.
    """

    def __init__(self, *, most_rows: int, device: torch.device) -> None:
        self._most_rows, self.device = most_rows, device
        self._row_bytes: dict[Hashable, float] = {}
        self._bounds: dict[Hashable, int] = {}

    def rows(self, shape: Hashable) -> int:
        """The most rows that a call of this shape may have now."""
        bound = self._bounds.get(shape, self._most_rows)
        if self.device.type != "cuda":
            return bound
        if shape not in self._row_bytes:
            return min(bound, _FIRST_ROWS)
        free, _ = torch.cuda.mem_get_info(self.device)
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return max(1, min(bound, int((1 - _KEPT_FREE) * (free + unused) / max(self._row_bytes[shape], 1.0))))

    def shrink(self, shape: Hashable, rows: int) -> None:
        """So many rows did not fit."""
        self._bounds[shape] = max(1, rows // 2)

    @contextmanager
    def measuring(self, shape: Hashable, rows: int) -> Iterator[None]:
        """Watch what a call of so many rows takes."""
        if self.device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        yield
        taken = (torch.cuda.max_memory_allocated(self.device) - before) / rows
        self._row_bytes[shape] = max(taken, self._row_bytes.get(shape, 0.0))
