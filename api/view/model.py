"""A base model as a tenant sees it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from core.domain.base_model import ModelFamily, ModelStatus
from core.infra.table import StableDiffusion
from core.services.model import status_reason


class ModelView(BaseModel):
    """`defaults` is what a request that is silent gets; it is empty until the model is ready."""

    model_config = ConfigDict(protected_namespaces=())

    id: UUID
    name: str
    description: str
    status: ModelStatus
    status_reason: str | None = Field(description="in full for its owner only")
    family: ModelFamily | None
    shared: bool
    source: str | None = Field(description="for its owner only")
    revision: str | None
    options: dict[str, Any]
    defaults: dict[str, Any]
    created_at: datetime


def view(model: StableDiffusion, *, tenant_id: UUID) -> ModelView:
    """A base model as JSON."""
    return ModelView(
        id=model.id,
        name=model.name,
        description=model.description,
        status=ModelStatus(model.status),
        status_reason=status_reason(model, tenant_id=tenant_id),
        family=ModelFamily(model.family) if model.family else None,
        shared=model.shared,
        source=model.source if model.tenant_id == tenant_id else None,
        revision=model.revision,
        options=model.options,
        defaults=model.defaults,
        created_at=model.created_at,
    )
