"""The safetensors format without a tensor library."""

import io
import json
import math
import struct

import pytest

from core.domain.errors import InvalidInput
from core.infra.safetensors_file import MAX_HEADER_BYTES, is_finite, read_header, read_scalar, write
from tests.api_bench import encode, floats

GOOD = encode({"a": floats(2, 3), "b": floats(4)}, {"format": "pt"})


def with_header(header: object, body: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_the_header_is_read() -> None:
    header = read_header(io.BytesIO(GOOD))
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in header.tensors] == [
        ("a", "F32", (2, 3)),
        ("b", "F32", (4,)),
    ]
    assert header.metadata == {"format": "pt"}


def test_every_cut_is_refused() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(InvalidInput):
            read_header(io.BytesIO(GOOD[:length]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04\x95", "not a safetensors"),
        (b"PK\x03\x04" + bytes(100), "not a safetensors"),
        ((2**63).to_bytes(8, "little") + bytes(100), "not a safetensors"),
        (with_header(b" " * (MAX_HEADER_BYTES + 1)), "header of more than"),
        (with_header(b"{"), "not JSON"),
        (with_header(b"[" * 99_999), "not JSON"),
        (with_header(b"\xff"), "not JSON"),
        (with_header(b"[]"), "not an object"),
        (with_header({}), "no tensor"),
        (with_header({"__metadata__": {}}), "no tensor"),
        (with_header(b'{"a": {"dtype": "F32"}, "a": {"dtype": "F32"}}'), "not JSON"),
        (with_header({"a": 5}), "broken entry"),
        (with_header({"a": entry(shape=5)}, bytes(4)), "broken entry"),
        (with_header({"a": entry(shape=(-1,))}, bytes(4)), "broken entry"),
        (with_header({"a": entry(shape=(True,))}, bytes(4)), "broken entry"),
        (with_header({"a": entry(shape=(1,) * 9)}, bytes(4)), "dimensions"),
        (with_header({"a": entry(offsets=(0.0, 4.0))}, bytes(4)), "broken entry"),
        (with_header({"a": entry(offsets=(0, 2**60))}, bytes(4)), "broken entry"),
        (with_header({"a": entry(dtype="I64", offsets=(0, 8))}, bytes(8)), "only F16, BF16, F32"),
        (with_header({"a": entry(dtype=["F32"])}, bytes(4)), "only F16, BF16, F32"),
        (with_header({"a": entry(shape=(2,))}, bytes(4)), "size"),
        (with_header({"a": entry()}, bytes(5)), "longer than"),
        (with_header({"a": entry(offsets=(4, 8))}, bytes(8)), "gaps or overlaps"),
        (with_header({"a": entry(), "b": entry()}, bytes(4)), "gaps or overlaps"),
        (with_header({f"t{n}": entry(shape=(0,), offsets=(0, 0)) for n in range(10_001)}), "more than 10000"),
    ],
)
def test_what_is_broken_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_header(io.BytesIO(content))


def tensor_of(dtype: str, content: bytes) -> tuple[io.BytesIO, object]:
    size = 4 if dtype == "F32" else 2
    file = io.BytesIO(encode({"a": (dtype, (len(content) // size,), content)}))
    return file, read_header(file).tensors[0]


def pack(dtype: str, *values: float) -> bytes:
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{'e' if dtype == 'F16' else 'f'}", *values)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_one_number_that_is_none_is_found_among_many(dtype: str, bad: float) -> None:
    good = [0.0, -1.0, 1e-7, -65504.0, 2.0] * 70_000  # longer than one piece
    assert is_finite(*tensor_of(dtype, pack(dtype, *good)))  # type: ignore[arg-type]
    for place in (0, 1, 123_456, len(good) - 1):
        values = [*good[:place], bad, *good[place + 1 :]]
        assert not is_finite(*tensor_of(dtype, pack(dtype, *values)))  # type: ignore[arg-type]


def test_the_largest_numbers_are_finite() -> None:
    assert is_finite(*tensor_of("F32", pack("F32", 3.4028234e38, -3.4028234e38)))  # type: ignore[arg-type]
    assert is_finite(*tensor_of("BF16", b"\x7f\x7f\x7f\xff"))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_a_single_number_is_read(dtype: str) -> None:
    file, tensor = tensor_of(dtype, pack(dtype, 16.0))
    assert read_scalar(file, tensor) == 16.0  # type: ignore[arg-type]
    file, tensor = tensor_of(dtype, pack(dtype, 16.0, 1.0))
    with pytest.raises(InvalidInput, match="single"):
        read_scalar(file, tensor)  # type: ignore[arg-type]


def test_tensors_are_written_under_new_names() -> None:
    source = io.BytesIO(GOOD)
    tensors = {tensor.name.upper(): tensor for tensor in reversed(read_header(source).tensors)}
    target = io.BytesIO()
    write(source, target, tensors=tensors, metadata={"k": "v"})
    header = read_header(target)
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {"A": (2, 3), "B": (4,)}
    assert header.metadata == {"k": "v"}
    first = header.tensors[0]
    assert target.getvalue()[first.start : first.end] == floats(4)[2]
