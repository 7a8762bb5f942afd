"""Rollout: a challenger and an incumbent compared on live requests, until the evidence speaks."""

from enum import StrEnum


class Arm(StrEnum):
    """Which side of a rollout made a picture."""

    CHALLENGER = "challenger"
    INCUMBENT = "incumbent"


class RolloutKind(StrEnum):
    """A canary is not champion yet and gets a share; a watch is the champion already, and its predecessor gets one."""

    CANARY = "canary"
    WATCH = "watch"


class RolloutOutcome(StrEnum):
    """How a rollout ended. `kept` is a watch that found no fault; `superseded` gave way to a person's decision."""

    PROMOTED = "promoted"
    ABORTED = "aborted"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
