"""One turn of the wheel: feedback becomes a candidate adapter."""

from enum import StrEnum


class ModelUpdateStatus(StrEnum):
    PLANNED = "planned"
    TRAINING = "training"
    EVALUATING = "evaluating"
    CANARY = "canary"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"


class TrainingRole(StrEnum):
    """How a training row is used: liked alone, disliked alone, or one side of a pair."""

    LIKED = "liked"
    DISLIKED = "disliked"
    CHOSEN = "chosen"
    REJECTED = "rejected"


class Split(StrEnum):
    TRAIN = "train"
    HELD_OUT = "held_out"
