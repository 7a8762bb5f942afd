"""Random LoRA files for the benches, on attention or on every layer of a UNet, in 16 bits as trainers save them."""

import hashlib
from pathlib import Path
from uuid import UUID

import torch
from safetensors.torch import save_file
from torch import nn

from core.domain.generation import ResolvedAdapter
from worker.engine.pipeline import Pipeline

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
KINDS: dict[str, tuple[int, tuple[str, ...] | None]] = {
    "r16 attention": (16, ATTENTION),
    "r64 all layers": (64, None),
    "r13 all layers": (13, None),
    "r4 attention": (4, ATTENTION),
}
_STRENGTH = 0.5
"""What a LoRA adds, beside what a layer says: enough to be seen in a picture."""


def save_lora(folder: Path, pipeline: Pipeline, *, kind: str, seed: int) -> Path:
    """One file, named by its content. The same seed gives the same file."""
    rank, names = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for path, module in pipeline.unet.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d) or (names and not path.endswith(names)):
            continue
        shape = module.weight.shape
        down = torch.randn(rank, *shape[1:], generator=generator) / shape[1:].numel() ** 0.5
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator) / rank**0.5
        weights[f"unet.{path}.lora_A.weight"] = down.half()
        weights[f"unet.{path}.lora_B.weight"] = (_STRENGTH * up).half()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"draft-{seed}"
    save_file(weights, draft)
    return draft.rename(folder / f"{hashlib.sha256(draft.read_bytes()).hexdigest()}.safetensors")


def as_asked(file: Path, *, weight: float = 1.0) -> ResolvedAdapter:
    """The file as a request names it; its key in the store is its name."""
    return ResolvedAdapter(
        id=str(UUID(int=0)),
        name="bench",
        version=1,
        sha256=file.stem,
        object_key=file.name,
        weight=weight,
        text_encoder_weight=weight,
    )
