import json
from collections.abc import Hashable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from core.domain.errors import InvalidInput
from worker.engine.adapter_file import read_file


def test_every_tensor_is_as_the_library_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    tensors = {f"{kind}": torch.arange(6).reshape(2, 3).to(kind) for kind in kinds} | {"one": torch.tensor(2.5)}
    save_file(tensors, file, metadata={"who": "we"})

    read = read_file(file, pin=False)

    expected = load_file(file)
    assert read.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read.tensors[name].dtype == tensor.dtype
        assert torch.equal(read.tensors[name], tensor), name
    assert read.metadata == {"who": "we"}


def test_tensors_are_pieces_of_the_memory_that_holds_the_file(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    save_file({"a": torch.ones(3, 4), "b": torch.ones(5).half()}, file)

    read = read_file(file, pin=False)

    start = read.memory.untyped_storage().data_ptr()
    assert all(tensor.untyped_storage().data_ptr() == start for tensor in read.tensors.values())
    assert file.read_bytes().endswith(read.header + read.memory.numpy().tobytes())


def test_a_tensor_that_does_not_begin_at_a_word_is_read_as_well(tmp_path: Path) -> None:
    content = torch.tensor([0.5]).half().numpy().tobytes() + torch.tensor([1.5, -2.0]).numpy().tobytes()
    half = {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}
    header = json.dumps({"half": half, "a": {"dtype": "F32", "shape": [2], "data_offsets": [2, 10]}}).encode()
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + content)

    assert read_file(file, pin=False).tensors["a"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("kept", [0, 4, 8, 40, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "adapter.safetensors"
    file.write_bytes(save({"a": torch.ones(3, 4)})[:kept])

    with pytest.raises(InvalidInput):
        _ = read_file(file, pin=False).tensors


def test_an_outline_knows_of_numbers_nothing_but_where_they_are(tmp_path: Path) -> None:
    def outline(tensors: dict[str, torch.Tensor], **metadata: str) -> Hashable:
        save_file(tensors, tmp_path / "adapter.safetensors", metadata=metadata)
        return read_file(tmp_path / "adapter.safetensors", pin=False).outline

    plain = outline({"a": torch.ones(3, 4)})
    assert outline({"a": torch.zeros(3, 4)}) == plain
    assert outline({"a": torch.ones(3, 4)}, said="one") == outline({"a": torch.ones(3, 4)}, said="much more than that")
    others = [
        outline({"b": torch.ones(3, 4)}),
        outline({"a": torch.ones(4, 3)}),
        outline({"a": torch.ones(3, 4).half()}),
        outline({"a": torch.ones(3, 4)}, lora_adapter_metadata="{}"),
        outline({"a": torch.ones(3, 4)}, lora_adapter_metadata='{"r": 4}'),
    ]
    assert len({plain, *others}) == 6
