"""A safetensors file, read at once: its tensors are pieces of the memory that holds the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.infra import safetensors_file

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class AdapterFile:
    """`memory` is the whole file (bytes,); `tensors` are pieces of it, but for those that do not begin at a word."""

    memory: Tensor
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read_file(path: Path, *, pin: bool) -> AdapterFile:
    """Read a file in one go, where the library would take its time for each tensor. `pin` takes pinned memory.

    Raises:
        InvalidInput: it is no safetensors file, or not a whole one.
    """
    memory = torch.empty(path.stat().st_size, dtype=torch.uint8, pin_memory=pin)
    with path.open("rb") as opened:
        header = safetensors_file.read_header(opened)
        opened.seek(0)
        opened.readinto(memory.numpy().data)
    return AdapterFile(memory, {each.name: _tensor(memory, each) for each in header.tensors}, header.metadata)


def _tensor(memory: Tensor, said: safetensors_file.Tensor) -> Tensor:
    dtype = _DTYPES[said.dtype]
    piece = memory[said.start : said.end]
    return (piece if said.start % dtype.itemsize == 0 else piece.clone()).view(dtype).view(said.shape)
