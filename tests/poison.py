"""Files that run code where somebody unpickles them: they leave a mark."""

import io
import zipfile
from pathlib import Path

from tests.api_bench import Tensors, encode, lora


def pickled(mark: Path) -> bytes:
    """A pickle, written by hand: the tree imports no pickler."""
    return b"cposix\nsystem\n(S'touch %s'\ntR." % str(mark).encode()


def checkpoint(mark: Path) -> bytes:
    """What `torch.save` writes since 1.6, for `.pt`, `.bin` and `.ckpt` alike: a zip around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(mark))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def poisons(mark: Path) -> dict[str, bytes]:
    """By what they are."""
    pickle = pickled(mark)
    return {
        "a pickle": pickle,
        "a newer pickle": b"\x80\x04" + pickle,
        "a checkpoint": checkpoint(mark),
        "a pickle as the header of safetensors": len(pickle).to_bytes(8, "little") + pickle,
        "a pickle before safetensors": pickle + encode(lora()),
        "a pickle behind safetensors": encode(lora()) + pickle,
        "a checkpoint behind safetensors": encode(lora()) + checkpoint(mark),
    }


def laden_lora(mark: Path) -> Tensors:
    """A LoRA whose numbers are a pickle's bytes: they stay numbers, whoever reads them."""
    tensors = dict(lora())
    name, (dtype, shape, content) = next(iter(tensors.items()))
    pickle = pickled(mark)
    return tensors | {name: (dtype, shape, pickle + content[len(pickle) :])}
