"""Checkpoints in the object store: put there file by file, manifest last, and found again."""

import hashlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol
from uuid import UUID

from core.domain import object_key
from core.domain.errors import NotFound
from core.infra.object_store import ObjectStore
from worker.training.checkpoint import MANIFEST, digest_file, find_fault, read_manifest

_log = logging.getLogger(__name__)


class StoredCheckpoint(Protocol):
    """What is known of a checkpoint in the object store."""

    @property
    def step(self) -> int: ...
    @property
    def object_prefix(self) -> str: ...
    @property
    def manifest_sha256(self) -> str: ...


def upload_checkpoint(store: ObjectStore, path: Path, *, job_id: UUID, claim_epoch: int, step: int) -> str:
    """Store a complete checkpoint under the claim's own keys; gives the sha256 of its manifest.

    Raises:
        Unavailable: the store did not take all of it.
    """
    for name in (*read_manifest(path)["files"], MANIFEST):
        key = object_key.checkpoint(job_id=job_id, claim_epoch=claim_epoch, step=step, name=name)
        store.upload(path / name, key)
    return digest_file(path / MANIFEST)


def fetch_newest(
    store: ObjectStore, stored: Iterable[StoredCheckpoint], *, config_sha256: str, folder: Path
) -> Path | None:
    """The first of `stored` that is whole and of this configuration, fetched into `folder`; None where none is.

    Raises:
        Unavailable: the store is not reachable.
    """
    for checkpoint in stored:
        path = folder / f"{checkpoint.step:08d}"
        shutil.rmtree(path, ignore_errors=True)
        fault = _fetch(store, checkpoint, path) or find_fault(path, config_sha256=config_sha256)
        if fault is None:
            return path
        _log.warning("The checkpoint of step %d is left aside: %s", checkpoint.step, fault)
    return None


def delete_checkpoint(store: ObjectStore, object_prefix: str) -> None:
    """Remove the objects of a checkpoint that nobody needs.

    Raises:
        Unavailable: the store is not reachable; what is left has no row and is swept some day.
    """
    store.delete_many([key for key, _ in store.list(object_prefix)])


def _fetch(store: ObjectStore, checkpoint: StoredCheckpoint, path: Path) -> str | None:
    """Bring the files here; why not, where they cannot be had."""
    try:
        manifest = store.get(f"{checkpoint.object_prefix}{MANIFEST}")
        if hashlib.sha256(manifest).hexdigest() != checkpoint.manifest_sha256:
            return f"{MANIFEST} is not what was recorded"
        path.mkdir(parents=True)
        (path / MANIFEST).write_bytes(manifest)
        for name in read_manifest(path)["files"]:
            store.download(f"{checkpoint.object_prefix}{name}", path / name)
    except (NotFound, ValueError) as error:
        return str(error)
    return None
