"""Where a run stands, on disk: whole or not there at all.

A checkpoint is a folder: `adapter`, `optimizer`, `random` and `guide` as safetensors, the samples drawn so far, and
`manifest.json`, written last, with the sha256 of each of them. The folder gets its name only when it is complete.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from core.domain.preference import AnyPlan

MANIFEST = "manifest.json"
_FORMAT = 1
_TENSORS = ("adapter", "optimizer", "random", "guide")


@dataclass(slots=True)
class Snapshot:
    """All that a run needs to go on as if nothing had happened.

    `adapter` holds the weights by parameter name, `optimizer` their moments as `<parameter>.<moment>`, `random` the
    states of the generators, `guide` what the guide knows. `position` is the number of examples drawn; `scaler` the
    state of float16's loss scale.
    """

    step: int
    position: int
    first_loss: float
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    random: dict[str, torch.Tensor]
    guide: dict[str, torch.Tensor] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


def digest_config(plan: AnyPlan, *, base_model_id: str) -> str:
    """sha256 of what the run is: a checkpoint of anything else is not one of this run."""
    config = {"plan": plan.model_dump(mode="json"), "base_model_id": base_model_id}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def write_checkpoint(folder: Path, snapshot: Snapshot, *, config_sha256: str, attachments: Sequence[Path]) -> Path:
    """Write `folder`/<step>, complete and on the disk when this returns.

    Raises:
        OSError: the disk is full or broken; nothing of it is there then.
    """
    final, draft = folder / f"{snapshot.step:08d}", folder / f"{snapshot.step:08d}.draft"
    for stale in (final, draft):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        _write(draft, snapshot, config_sha256=config_sha256, attachments=attachments)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)  # half a checkpoint would keep a full disk full
        raise
    draft.rename(final)
    _flush(folder)
    return final


def _write(draft: Path, snapshot: Snapshot, *, config_sha256: str, attachments: Sequence[Path]) -> None:
    draft.mkdir(parents=True)
    for name in _TENSORS:
        tensors = {key: value.detach().cpu().contiguous() for key, value in getattr(snapshot, name).items()}
        (draft / f"{name}.safetensors").write_bytes(save(tensors))  # save_file() hides that a disk is full
    for path in attachments:
        shutil.copyfile(path, draft / path.name)
    files = {path.name: digest_file(path) for path in sorted(draft.iterdir())}
    manifest = {
        "format": _FORMAT,
        "step": snapshot.step,
        "position": snapshot.position,
        "first_loss": snapshot.first_loss,
        "scaler": snapshot.scaler,
        "config_sha256": config_sha256,
        "files": files,
    }
    for name in files:
        _flush(draft / name)
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=2))
    _flush(draft / MANIFEST)
    _flush(draft)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        ValueError: it is missing, or does not have the form of one.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        names = list(manifest["files"])
        formed = manifest["format"] == _FORMAT and all(name == Path(name).name for name in names)
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"no manifest: {error}") from error
    if not formed:
        raise ValueError("a manifest of another form")
    return dict(manifest)


def find_fault(path: Path, *, config_sha256: str) -> str | None:
    """Why a run cannot go on from here; None where it can."""
    try:
        manifest = read_manifest(path)
        if manifest["config_sha256"] != config_sha256:
            return "it belongs to another configuration"
        for name, sha256 in manifest["files"].items():
            if digest_file(path / name) != sha256:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return None


def read_checkpoint(path: Path, *, attachments: Path) -> Snapshot:
    """Read a checkpoint without fault, and put its samples back into the folder `attachments`."""
    manifest = read_manifest(path)
    tensors = {name: load_file(path / f"{name}.safetensors") for name in _TENSORS}
    attachments.mkdir(parents=True, exist_ok=True)
    for name in manifest["files"]:
        if name.removesuffix(".safetensors") not in _TENSORS:
            shutil.copyfile(path / name, attachments / name)
    return Snapshot(
        step=manifest["step"],
        position=manifest["position"],
        first_loss=manifest["first_loss"],
        scaler=manifest["scaler"],
        **tensors,
    )


def digest_file(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
