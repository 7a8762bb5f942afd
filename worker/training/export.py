"""A trained adapter as files: diffusers' format, kohya's, and the manifest."""

import json
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save

from core.domain.adapter import AdapterManifest
from core.domain.base_model import ModelFamily
from worker.training.checkpoint import digest_file
from worker.training.header import describe
from worker.training.learner import Learner
from worker.training.provenance import Provenance

ADAPTER, KOHYA, MANIFEST = "adapter.safetensors", "adapter_kohya.safetensors", "manifest.json"
_LIBRARIES = ("lorikeet", "torch", "diffusers", "peft", "transformers")


def export_adapter(learner: Learner, provenance: Provenance, *, folder: Path) -> AdapterManifest:
    """Write ADAPTER, KOHYA and at last MANIFEST into `folder`. The same weights give the same bytes."""
    tensors, header = _weights(learner), describe(provenance)
    config = {f"{name}.{key}": value for name, module in learner.modules.items() for key, value in _config(module)}
    metadata = {"lora_adapter_metadata": json.dumps(config, sort_keys=True)}
    write_tensors(folder / ADAPTER, tensors, header | metadata)
    kohya = to_kohya(tensors, alpha=provenance.plan.alpha, family=provenance.family)
    write_tensors(folder / KOHYA, kohya, header)
    manifest = _manifest(learner, provenance, folder / ADAPTER)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def to_kohya(tensors: dict[str, torch.Tensor], *, alpha: float, family: ModelFamily) -> dict[str, torch.Tensor]:
    """Rename `unet.a.b.lora_A.weight` to `lora_unet_a_b.lora_down.weight`, and add each module's alpha.

    Names as in kohya-ss/sd-scripts, networks/lora.py. Diffusers' own converter writes the rank for alpha.
    """
    first = "lora_te1" if family is ModelFamily.SDXL else "lora_te"
    prefixes = {"unet": "lora_unet", "text_encoder": f"{first}_text_model", "text_encoder_2": "lora_te2_text_model"}
    directions = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        path, direction = key.split(".lora_")
        part, module = path.split(".", 1)
        name = f"{prefixes[part]}_{module.removeprefix('text_model.').replace('.', '_')}"
        renamed[f"{name}.{directions[direction]}"] = tensor
        renamed[f"{name}.alpha"] = torch.tensor(alpha, dtype=tensor.dtype)
    return renamed


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors with the metadata in order; the library's own writer shuffles it, and with it the digest."""
    plain = save(tensors)
    size = int.from_bytes(plain[:8], "little")
    header = {"__metadata__": {"format": "pt"} | dict(sorted(metadata.items()))} | json.loads(plain[8 : 8 + size])
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + plain[8 + size :])


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    # PEFT's names throughout: diffusers' older ones exist for attention only, and a file that mixes both loads in part.
    return {
        f"{name}.{key}": tensor.detach().float().cpu().contiguous()
        for name, module in learner.modules.items()
        for key, tensor in get_peft_model_state_dict(module).items()
    }


def _config(module: Any) -> list[tuple[str, Any]]:
    return [(key, _plain(value)) for key, value in module.peft_config["default"].to_dict().items()]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return sorted(value) if isinstance(value, set) else value


def _manifest(learner: Learner, provenance: Provenance, adapter: Path) -> AdapterManifest:
    plan, spec = provenance.plan, provenance.plan.spec
    return AdapterManifest(
        name=plan.name,
        description=plan.description,
        model=provenance.model.name,
        version=plan.adapter_version,
        family=provenance.family,
        base_model_id=str(provenance.model.id),
        rank=spec.rank,
        alpha=plan.alpha,
        target_modules=spec.target_modules,
        trains_text_encoder=learner.trains_text_encoder,
        trigger_word=plan.trigger_word,
        sha256=digest_file(adapter),
        size_bytes=adapter.stat().st_size,
        dataset_digest=plan.dataset_digest,
        training_spec=spec.model_dump(mode="json"),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # this project itself, run from its sources
            continue
    return found
