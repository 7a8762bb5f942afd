"""What a job's webhook is told, and the secret that signs it, as their owner sees them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from core.domain.webhook import WebhookEvent
from core.infra.table import WebhookDelivery, WebhookSecret


class DeliveryView(BaseModel):
    """An event that a job's webhook is told; `id` is its `webhook-id`."""

    id: UUID
    event: WebhookEvent
    status: Literal["waiting", "delivered", "given_up"]
    created_at: datetime
    attempt: int = Field(description="tries so far, the present one included")
    next_at: datetime | None = Field(description="when it is tried next")
    delivered_at: datetime | None
    given_up_at: datetime | None
    status_code: int | None = Field(description="the receiver's last answer")
    error: str | None = Field(description="why the last try failed")


class SecretView(BaseModel):
    """What webhooks are signed with, by Standard Webhooks. `previous` signs as well until `previous_until`."""

    secret: str
    created_at: datetime
    previous: str | None
    previous_until: datetime | None


def view_delivery(row: WebhookDelivery) -> DeliveryView:
    """A delivery as JSON."""
    shown = {name: getattr(row, name) for name in DeliveryView.model_fields if name != "status"}
    status = "delivered" if row.delivered_at else "given_up" if row.given_up_at else "waiting"
    return DeliveryView.model_validate(shown | {"status": status})


def view_secret(row: WebhookSecret) -> SecretView:
    """A tenant's secret as JSON."""
    return SecretView.model_validate(row, from_attributes=True)
