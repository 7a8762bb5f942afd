"""A safetensors file, read at once: its tensors are pieces of the memory that holds the file."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from core.infra import safetensors_file

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


_SPOKEN = '{"__metadata__":'
_SETTINGS = "lora_adapter_metadata"


@dataclass(frozen=True)
class AdapterFile:
    """`memory` holds all its tensors (bytes,); `header` is what it says of them and of itself, as it stands there.

    The other attributes raise InvalidInput where it is no safetensors file, or not a whole one.
    """

    memory: Tensor
    header: bytes

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """By name: pieces of the memory, but for those that do not begin at a word."""
        return {each.name: self._tensor(each) for each in self._said.tensors}

    @property
    def metadata(self) -> Mapping[str, str]:
        """The free text that came with them."""
        return self._said.metadata

    @cached_property
    def outline(self) -> Hashable:
        """Equal for files that differ in their numbers only, and in free text that says nothing of them."""
        text, settings = self.header.decode(errors="replace").rstrip(), None
        if text.startswith(_SPOKEN):  # where all writers that we know put it
            try:
                said, end = json.JSONDecoder().raw_decode(text, len(_SPOKEN))
            except (ValueError, RecursionError):
                return text
            settings, text = said.get(_SETTINGS) if isinstance(said, dict) else None, text[end:]
        return (text.lstrip("{,"), repr(settings), len(self.memory))

    @cached_property
    def _said(self) -> safetensors_file.SafetensorsHeader:
        return safetensors_file.parse_header(self.header, size=self._start + len(self.memory))

    @property
    def _start(self) -> int:
        return safetensors_file.PREFIX_BYTES + len(self.header)

    def _tensor(self, said: safetensors_file.Tensor) -> Tensor:
        dtype, start = _DTYPES[said.dtype], said.start - self._start
        piece = self.memory[start : said.end - self._start]
        return (piece if start % dtype.itemsize == 0 else piece.clone()).view(dtype).view(said.shape)


def read_file(path: Path, *, pin: bool) -> AdapterFile:
    """Read a file in one go, where the library would take its time for each tensor. `pin` takes pinned memory.

    Raises:
        InvalidInput: it is no safetensors file.
    """
    with path.open("rb", buffering=0) as opened:
        size = path.stat().st_size
        length = safetensors_file.header_bytes(opened.read(safetensors_file.PREFIX_BYTES), size=size)
        header = opened.read(length)
        memory = torch.empty(size - opened.tell(), dtype=torch.uint8, pin_memory=pin)
        _fill(memory, opened)
    return AdapterFile(memory, header)


def _fill(memory: Tensor, opened: FileIO) -> None:
    place = memory.numpy().data
    while place and (count := opened.readinto(place)):
        place = place[count:]
