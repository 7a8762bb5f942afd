"""An update policy as its owner sees it."""

from datetime import datetime

from pydantic import BaseModel, Field

from core.domain.policy import PolicyDecision, Standing, UpdatePolicy
from core.services.policy import Look


class PolicyView(BaseModel):
    """A policy, and why no update has started yet. Put `policy` back, changed."""

    policy: UpdatePolicy
    standing: Standing
    decision: PolicyDecision
    decided_at: datetime | None = Field(description="when the policy was last looked at by itself; null: never yet")


def view(look: Look) -> PolicyView:
    """A look as JSON."""
    return PolicyView(policy=look.policy, standing=look.standing, decision=look.decision, decided_at=look.decided_at)
