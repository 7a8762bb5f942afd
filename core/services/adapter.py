"""Adapters: import one from a file, find, delete."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from core.domain import object_key
from core.domain.adapter import SERVING, AdapterManifest, AdapterSpec, AdapterStage
from core.domain.base_model import ModelFamily
from core.domain.errors import Conflict, NotFound
from core.domain.lora_key import LoraForm
from core.infra.adapter_file import CheckedAdapter, check_adapter, write_adapter, write_as_named
from core.infra.object_store import ObjectStore
from core.infra.repository import adapter as adapters
from core.infra.repository import base_model as base_models
from core.infra.repository import lock
from core.infra.repository import rollout as rollouts
from core.infra.settings import Settings
from core.infra.table import Adapter
from core.services import model as models
from core.services.removal import remove_after_commit

CONTENT_TYPE = "application/octet-stream"
_SERVED = "adapter.safetensors"
_KOHYA = "adapter_kohya.safetensors"


@dataclass(frozen=True)
class FitTarget:
    """The base model that a file has to fit."""

    model_id: UUID
    name: str
    family: ModelFamily
    modules: dict[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class StoredAdapter:
    """A checked file in the object store as workers load it, and by kohya's names where it came with those."""

    checked: CheckedAdapter
    object_key: str
    kohya_object_key: str | None
    sha256: str
    size_bytes: int

    @property
    def prefix(self) -> str:
        """Of both, and of nothing else."""
        return self.object_key.removesuffix(_SERVED)


def fit_target(session: Session, spec: AdapterSpec, *, tenant_id: UUID, settings: Settings) -> FitTarget:
    """What an adapter of this request has to fit.

    Raises:
        InvalidInput: there is no such base model.
        Conflict: the base model is not ready.
    """
    name = spec.base_model or settings.default_model
    model = models.usable(session, tenant_id=tenant_id, name=name, field="base_model")
    assert model.family is not None
    modules = base_models.modules_of(session, model_id=model.id)
    return FitTarget(model.id, model.name, ModelFamily(model.family), modules)


def store_file(
    file: IO[bytes], target: FitTarget, spec: AdapterSpec, *, tenant_id: UUID, store: ObjectStore
) -> StoredAdapter:
    """Check a file from outside and keep what it holds, without the free text that came with it.

    Raises:
        InvalidInput: the file is not a LoRA for this base model.
        Unavailable: the object store is away.
    """
    checked = check_adapter(file, modules=target.modules, family=target.family, alpha=spec.alpha)
    with tempfile.TemporaryFile() as served, tempfile.TemporaryFile() as kohya:
        sha256, size = write_adapter(file, served, checked)
        files = {_SERVED: served}
        if checked.form is LoraForm.KOHYA:
            write_as_named(file, kohya)
            files[_KOHYA] = kohya
        # A folder of its own for every import, so that deleting one never takes another's file.
        folder = uuid4().hex
        keys = {
            name: object_key.imported_adapter(tenant_id=tenant_id, sha256=sha256, name=f"{folder}/{name}")
            for name in files
        }
        for name, body in files.items():
            body.seek(0)
            store.put(keys[name], body, content_type=CONTENT_TYPE)
    return StoredAdapter(
        checked=checked,
        object_key=keys[_SERVED],
        kohya_object_key=keys.get(_KOHYA),
        sha256=sha256,
        size_bytes=size,
    )


def register(
    session: Session, spec: AdapterSpec, stored: StoredAdapter, target: FitTarget, *, tenant_id: UUID
) -> Adapter:
    """Make a stored file the next version of its name."""
    version = next_version(session, tenant_id=tenant_id, name=spec.name)
    manifest = _manifest(spec, stored, target, version)
    adapter = Adapter(
        tenant_id=tenant_id,
        base_model_id=target.model_id,
        name=spec.name,
        version=version,
        description=spec.description,
        stage=AdapterStage.AVAILABLE,
        rank=manifest.rank,
        alpha=manifest.alpha,
        object_key=stored.object_key,
        kohya_object_key=stored.kohya_object_key,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        manifest=manifest.model_dump(mode="json"),
    )
    session.add(adapter)
    session.flush()
    return adapter


def _manifest(spec: AdapterSpec, stored: StoredAdapter, target: FitTarget, version: int) -> AdapterManifest:
    checked = stored.checked
    return AdapterManifest(
        name=spec.name,
        description=spec.description,
        model=target.name,
        version=version,
        family=target.family,
        base_model_id=str(target.model_id),
        rank=checked.rank,
        alpha=checked.alpha,
        target_modules=tuple(sorted(checked.pairs)),
        trains_text_encoder=checked.trains_text_encoder,
        trigger_word=spec.trigger_word,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
    )


def next_version(session: Session, *, tenant_id: UUID, name: str) -> int:
    """The version that a new adapter of this name gets; nobody else gets it until the transaction ends."""
    lock.take(session, "adapter", tenant_id, name)
    return adapters.highest_version(session, tenant_id=tenant_id, name=name) + 1


def get(session: Session, *, tenant_id: UUID, adapter_id: UUID) -> Adapter:
    """A tenant's adapter.

    Raises:
        NotFound: no such adapter, or another tenant's.
    """
    return _own(session, tenant_id, adapter_id, for_update=False)


def _own(session: Session, tenant_id: UUID, adapter_id: UUID, *, for_update: bool) -> Adapter:
    adapter = adapters.by_id(session, tenant_id=tenant_id, adapter_id=adapter_id, for_update=for_update)
    if adapter is None:
        raise NotFound(f"There is no adapter {adapter_id}.")
    return adapter


def find(session: Session, *, adapter_id: UUID, tenant_id: UUID | None) -> Adapter:
    """The adapter whose file is asked for; `tenant_id` None where a signed URL has spoken for the caller.

    Raises:
        NotFound: no such adapter, or another tenant's.
    """
    if tenant_id is not None:
        return get(session, tenant_id=tenant_id, adapter_id=adapter_id)
    adapter = adapters.any_by_id(session, adapter_id=adapter_id)
    if adapter is None:
        raise NotFound(f"There is no adapter {adapter_id}.")
    return adapter


def list_page(
    session: Session, *, tenant_id: UUID, name: str | None = None, limit: int = 20, cursor: str | None = None
) -> tuple[Sequence[Adapter], str | None]:
    """A tenant's adapters, newest first, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    return adapters.page(session, tenant_id=tenant_id, name=name, limit=limit, cursor=cursor)


def delete(session: Session, *, tenant_id: UUID, adapter_id: UUID, store: ObjectStore) -> None:
    """Forget an adapter; the files of an imported one go with it, those of a trained one with its job.

    Raises:
        NotFound: no such adapter, or another tenant's.
        Conflict: a job still needs it, feedback speaks of it, it serves as champion or canary, or was compared live.
    """
    adapter = _own(session, tenant_id, adapter_id, for_update=True)
    if adapters.is_in_use(session, adapter):
        raise Conflict(f"A job that has not ended uses {adapter.ref}; cancel it, or wait for its end.")
    if adapter.stage in SERVING:
        raise Conflict(f"{adapter.ref} is the {adapter.stage} of its base model.")
    if rollouts.names(session, adapter):
        raise Conflict(f"{adapter.ref} takes or took part in a live comparison, so it has to stay.")
    if adapters.is_judged(session, adapter):
        raise Conflict(f"People have rated images of {adapter.ref}, so it has to stay.")
    if adapter.job_id is None:
        remove_after_commit(session, store, prefix=adapter.object_key.removesuffix(_SERVED))
    session.delete(adapter)
