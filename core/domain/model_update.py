"""One turn of the wheel: feedback becomes a candidate adapter.

planned ──► training ──► evaluating ──┬──► canary ──┬──► promoted
                                      │             └──► rejected    the live test, a guard, or a person said no
                                      ├──► awaiting_approval ──► canary | promoted | rejected
                                      ├──► promoted                  where the policy wants no canary
                                      └──► rejected                  the gates said no
Whatever is in flight may end as failed or canceled.
"""

from enum import StrEnum

from pydantic import Field

from core.domain.value import Specification, Text


class ModelUpdateStatus(StrEnum):
    PLANNED = "planned"
    TRAINING = "training"
    EVALUATING = "evaluating"
    AWAITING_APPROVAL = "awaiting_approval"
    CANARY = "canary"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELED = "canceled"


IN_FLIGHT = (
    ModelUpdateStatus.PLANNED,
    ModelUpdateStatus.TRAINING,
    ModelUpdateStatus.EVALUATING,
    ModelUpdateStatus.AWAITING_APPROVAL,
    ModelUpdateStatus.CANARY,
)
"""One of a tenant's updates of a base model at a time is in these."""

AT_WORK = (ModelUpdateStatus.PLANNED, ModelUpdateStatus.TRAINING, ModelUpdateStatus.EVALUATING)
"""The update's job has not ended."""


class UpdateTrigger(StrEnum):
    """What started an update: the policy, a person, or feedback that was withdrawn."""

    POLICY = "policy"
    HAND = "hand"
    WITHDRAWAL = "withdrawal"


class TrainingRole(StrEnum):
    """How a training row is used: liked alone, disliked alone, or one side of a pair."""

    LIKED = "liked"
    DISLIKED = "disliked"
    CHOSEN = "chosen"
    REJECTED = "rejected"


class Split(StrEnum):
    TRAIN = "train"
    HELD_OUT = "held_out"


class UpdateRequest(Specification):
    """Asks for an update by hand."""

    model: Text | None = Field(default=None, max_length=100, description="id or name of the base model")
