"""Rollout: a challenger and an incumbent compared on live requests, until the evidence speaks."""

import hashlib
import random
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from core.domain.value import Specification, Text


class Arm(StrEnum):
    """Which side of a rollout made a picture."""

    CHALLENGER = "challenger"
    INCUMBENT = "incumbent"


class RolloutKind(StrEnum):
    """A canary is not champion yet and gets a share; a watch is the champion already, and its predecessor gets one."""

    CANARY = "canary"
    WATCH = "watch"

    @property
    def small_arm(self) -> Arm:
        """The arm that gets the share."""
        return Arm.CHALLENGER if self is RolloutKind.CANARY else Arm.INCUMBENT

    @property
    def large_arm(self) -> Arm:
        """The arm that gets the rest."""
        return Arm.INCUMBENT if self is RolloutKind.CANARY else Arm.CHALLENGER


class RolloutOutcome(StrEnum):
    """How a rollout ended. `kept` is a watch that found no fault; `superseded` gave way to a person's decision."""

    PROMOTED = "promoted"
    ABORTED = "aborted"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


class MoveSpec(Specification):
    """Why a person promotes or rolls back."""

    reason: Annotated[Text, Field(min_length=1, max_length=2000)] | None = None


def bucket_of(rollout_id: str, user_ref: str) -> float:
    """Where a user stands in a rollout, 0 to 1 and below: always at the same place, in another rollout at another."""
    digest = hashlib.sha256(f"{rollout_id}\n{user_ref}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def arms_of(kind: RolloutKind, *, share: float, bucket: float, num_images: int, draw: random.Random) -> tuple[Arm, ...]:
    """The arm of each picture of a request that names no adapter.

    Below the share, one picture comes from the small arm, several come from both, in an order that is drawn anew.
    """
    if bucket >= share:
        return (kind.large_arm,) * num_images
    if num_images == 1:
        return (kind.small_arm,)
    few = num_images // 2
    arms = [kind.small_arm] * few + [kind.large_arm] * (num_images - few)
    draw.shuffle(arms)
    return tuple(arms)
