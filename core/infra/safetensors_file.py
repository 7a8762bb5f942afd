"""The safetensors format, read and written without a tensor library: a length, a JSON header, the bytes.

See https://github.com/huggingface/safetensors#format.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from core.domain.errors import InvalidInput
from core.domain.json_object import unique

MAX_HEADER_BYTES = 2**20
MAX_TENSORS = 10_000
_MAX_DIMENSIONS = 8
ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
_CHUNK_BYTES = 2**20
PREFIX_BYTES = 8


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes are, from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """The tensors in the order of their bytes, and the free text that came with them."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def read_header(file: IO[bytes]) -> SafetensorsHeader:
    """Read and check the header: bounded, complete, every byte of the file in exactly one tensor.

    Raises:
        InvalidInput: it is not such a file; the field is `file`.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = header_bytes(file.read(PREFIX_BYTES), size=size)
    return parse_header(file.read(length), size=size)


def header_bytes(prefix: bytes, *, size: int) -> int:
    """How long the header is that follows the first PREFIX_BYTES of a file of `size` bytes.

    Raises:
        InvalidInput: it is not such a file; the field is `file`.
    """
    length = int.from_bytes(prefix, "little")
    if len(prefix) < PREFIX_BYTES or length > size - PREFIX_BYTES:
        raise _refused("is not a safetensors file, or is cut short")
    if length > MAX_HEADER_BYTES:
        raise _refused(f"has a header of more than {MAX_HEADER_BYTES} bytes, or is not a safetensors file")
    return length


def parse_header(encoded: bytes, *, size: int) -> SafetensorsHeader:
    """See `read_header`; of a file of `size` bytes."""
    entries = _parse(encoded)
    metadata = entries.pop("__metadata__", {})
    if len(entries) > MAX_TENSORS:
        raise _refused(f"has more than {MAX_TENSORS} tensors")
    body = PREFIX_BYTES + len(encoded)
    tensors = sorted((_tensor(name, entry, body) for name, entry in entries.items()), key=lambda tensor: tensor.start)
    _check_layout(tensors, body=body, size=size)
    is_text = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    return SafetensorsHeader(tuple(tensors), metadata if is_text else {})


def _parse(encoded: bytes) -> dict[str, Any]:
    try:
        header = json.loads(encoded.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise _refused("has a header that is not JSON, or is not a safetensors file") from None
    if not isinstance(header, dict):
        raise _refused("has a header that is not an object")
    return header


def _tensor(name: str, entry: Any, body: int) -> Tensor:
    label = name[:200].encode("utf-8", "replace").decode()
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _refused(f"has a broken entry for {label}") from None
    if not all(type(number) is int and 0 <= number < 2**48 for number in (*shape, start, end)):
        raise _refused(f"has a broken entry for {label}")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _refused(f"holds {label} as {str(dtype)[:20]}; only {', '.join(ITEM_BYTES)} are weights of a LoRA")
    if len(shape) > _MAX_DIMENSIONS:  # the product of many large numbers takes seconds
        raise _refused(f"has a tensor of more than {_MAX_DIMENSIONS} dimensions, {label}")
    if end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _refused(f"has a size for {label} that its shape does not give")
    return Tensor(name, dtype, shape, body + start, body + end)


def _check_layout(tensors: Sequence[Tensor], *, body: int, size: int) -> None:
    position = body
    for tensor in tensors:
        if tensor.start != position:
            raise _refused("has gaps or overlaps between its tensors")
        position = tensor.end
    if not tensors:
        raise _refused("holds no tensor")
    if position != size:
        raise _refused("is cut short, or longer than its header says")


def chunks(file: IO[bytes], tensor: Tensor) -> Iterator[bytes]:
    """A tensor's bytes, piece by piece, each a whole number of items."""
    position = tensor.start
    while position < tensor.end:
        file.seek(position)
        chunk = file.read(min(_CHUNK_BYTES, tensor.end - position))
        if not chunk:
            raise _refused("is cut short")
        yield chunk
        position += len(chunk)


_F16_EXPONENT = bytes(byte & 0x7C == 0x7C for byte in range(256))
_F32_EXPONENT = bytes(byte & 0x7F == 0x7F for byte in range(256))
_LAST_EXPONENT_BIT = bytes(byte & 0x80 == 0x80 for byte in range(256))


def is_finite(file: IO[bytes], tensor: Tensor) -> bool:
    """Whether no item is infinite or not a number: an exponent of only ones.

    Whole pieces are compared at once as long integers, a byte for each item.
    """
    return all(_is_finite(chunk, tensor.dtype) for chunk in chunks(file, tensor))


def _is_finite(chunk: bytes, dtype: str) -> bool:
    step = ITEM_BYTES[dtype]
    high = chunk[step - 1 :: step]
    if dtype == "F16":
        return 1 not in high.translate(_F16_EXPONENT)
    ones = int.from_bytes(high.translate(_F32_EXPONENT), "little")
    if not ones:
        return True
    return not ones & int.from_bytes(chunk[step - 2 :: step].translate(_LAST_EXPONENT_BIT), "little")


def read_scalar(file: IO[bytes], tensor: Tensor) -> float:
    """The only item of a tensor.

    Raises:
        InvalidInput: it has more or less than one.
    """
    if math.prod(tensor.shape) != 1:
        raise _refused(f"has a {tensor.name[:200]} that is not a single number")
    file.seek(tensor.start)
    raw = file.read(tensor.end - tensor.start)
    code, raw = ("<e", raw) if tensor.dtype == "F16" else ("<f", b"\0" * (4 - len(raw)) + raw)
    return float(struct.unpack(code, raw)[0])


def write(source: IO[bytes], target: IO[bytes], *, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write some of `source`'s tensors under new names; the same input gives the same bytes."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for name, tensor in tensors.items():
        size = tensor.end - tensor.start
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (position, position + size)}
        position += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    target.write(len(encoded).to_bytes(PREFIX_BYTES, "little") + encoded)
    for tensor in tensors.values():
        for chunk in chunks(source, tensor):
            target.write(chunk)


def _refused(reason: str) -> InvalidInput:
    return InvalidInput.of("file", reason)
