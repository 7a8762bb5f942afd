"""An adapter as its owner sees it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from api.link import FileLink, Link
from core.domain.adapter import AdapterStage
from core.infra.table import Adapter

FILES = {
    "diffusers": ("adapter.safetensors", "application/octet-stream"),
    "kohya": ("adapter_kohya.safetensors", "application/octet-stream"),
}


class AdapterUrls(BaseModel):
    """Files of an adapter: named as diffusers or kohya do. They need no key until `expires_at`."""

    self: str
    diffusers: str
    kohya: str | None
    manifest: str
    expires_at: datetime


class AdapterView(BaseModel):
    """A LoRA. `ref` names exactly this version in a request's `adapters`."""

    id: UUID
    ref: str
    name: str
    version: int
    description: str
    model: str = Field(description="name of the base model")
    base_model_id: UUID
    stage: AdapterStage
    rank: int
    alpha: float
    sha256: str
    size_bytes: int
    job_id: UUID | None = Field(description="the training that made it; null for an imported one")
    manifest: dict[str, Any]
    created_at: datetime
    urls: AdapterUrls


def view(adapter: Adapter, link: Link) -> AdapterView:
    """An adapter as JSON."""
    return AdapterView(
        id=adapter.id,
        ref=adapter.ref,
        name=adapter.name,
        version=adapter.version,
        description=adapter.description,
        model=adapter.manifest["model"],
        base_model_id=adapter.base_model_id,
        stage=AdapterStage(adapter.stage),
        rank=adapter.rank,
        alpha=adapter.alpha,
        sha256=adapter.sha256,
        size_bytes=adapter.size_bytes,
        job_id=adapter.job_id,
        manifest=adapter.manifest,
        created_at=adapter.created_at,
        urls=_urls(adapter, link),
    )


def _urls(adapter: Adapter, link: Link) -> AdapterUrls:
    diffusers = _file(adapter, "diffusers", adapter.object_key, link)
    kohya = _file(adapter, "kohya", adapter.kohya_object_key, link) if adapter.kohya_object_key else None
    self = link.to(f"/api/adapters/{adapter.id}")
    return AdapterUrls(
        self=self,
        diffusers=diffusers.url,
        kohya=kohya.url if kohya else None,
        manifest=f"{self}/manifest",
        expires_at=diffusers.expires_at,
    )


def _file(adapter: Adapter, form: str, object_key: str, link: Link) -> FileLink:
    name, content_type = FILES[form]
    return link.download(
        f"/api/adapters/{adapter.id}/files/{form}",
        object_key=object_key,
        content_type=content_type,
        file_name=f"{adapter.name}-{adapter.version}-{name}",
    )
