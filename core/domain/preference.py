"""Preference training: how opinions become a loss, and the frozen rows that one run reads."""

import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field

from core.domain.model_update import Split
from core.domain.training import Recipe, TrainingPlan
from core.domain.value import Count, Float, Int, Name, Seed, Share, Specification, Text


class PreferenceKind(StrEnum):
    """What one row says: of two pictures one is better, or of one picture that it is liked or disliked."""

    PAIR = "pair"
    LIKED = "liked"
    DISLIKED = "disliked"


class PreferenceRecipe(Recipe):
    """How an adapter is trained on opinions. Defaults are careful ones for Stable Diffusion 1.5 and SDXL.

    Weights of terms are relative to the preference loss; `beta` multiplies mean squared errors per element.
    """

    rank: Annotated[Int, Field(ge=1, le=256)] = 8
    learning_rate: Annotated[Float, Field(gt=0, le=1)] = 2e-5
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    steps: Annotated[Int, Field(ge=1, le=100_000)] = 1000
    batch_size: Annotated[Int, Field(ge=1, le=64)] = 16
    gradient_accumulation: Annotated[Int, Field(ge=1, le=256)] = 2
    train_text_encoder: Literal[False] = False
    beta: Annotated[Float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="strength of the preference loss; chosen from the margins seen when left out"
    )
    target_gradient: Annotated[Float, Field(gt=0, lt=0.5)] = Field(
        default=0.2, description="mean gradient factor that an automatic beta aims at"
    )
    flip_rate: Annotated[Float, Field(ge=0, lt=0.5)] | None = Field(
        default=None,
        description="share of choices believed to be mistaken (conservative DPO); "
        "when left out, how often raters disagree with others on the same pictures",
    )
    sft_weight: Annotated[Float, Field(ge=0, le=100)] = Field(
        default=0.05, description="weight of the denoising error of liked and chosen pictures"
    )
    anchor_weight: Annotated[Float, Field(ge=0, le=100)] = Field(
        default=0.1, description="weight of the distance between the policy's and the reference's predictions"
    )
    preserve_prompts: Annotated[tuple[Annotated[Text, Field(max_length=1000)], ...], Field(max_length=256)] = Field(
        default=(), description="prompts that are to be drawn as before; the empty one may be among them"
    )
    preserve_weight: Annotated[Float, Field(ge=0, le=100)] = Field(
        default=1.0, description="weight of the distance between policy and reference for preserve_prompts"
    )
    ema_decay: Annotated[Float, Field(ge=0, lt=1)] = Field(
        default=0.95, description="of the averaged weights that are kept; 0 keeps the last ones"
    )
    max_error_rise: Share = Field(
        default=0.02, description="of the error on liked pictures above the base model's; more ends the training"
    )
    strength: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of the learned change that is kept; less is nearer to the base"
    )
    noise_draws: Annotated[Int, Field(ge=1, le=10_000)] = Field(
        default=16, description="pairs of timestep and noise per row; the reference's errors are kept for each"
    )
    evaluate_every: Annotated[Count, Field(ge=1)] = Field(
        default=25, description="steps between two looks at the held-out rows"
    )


class PictureRef(Specification):
    """A picture of a row, as it was when the manifest was frozen."""

    image_id: UUID
    object_key: str
    sha256: str


class PreferenceRow(Specification):
    """One opinion that counts. `rejected` is there for a pair only; `weight` is relative to other rows."""

    feedback_id: UUID
    kind: PreferenceKind
    prompt: Text
    picture: PictureRef
    rejected: PictureRef | None = None
    weight: Annotated[Float, Field(gt=0)]
    split: Split


class PreferenceManifest(Specification):
    """The frozen, ordered rows that a model update trains and is judged on."""

    rows: tuple[PreferenceRow, ...]

    @property
    def digest(self) -> str:
        """sha256 over what the rows say, hexadecimal; ids do not enter, so the same opinions have the same digest."""
        said = [
            [row.kind, row.prompt, row.picture.sha256, row.rejected and row.rejected.sha256, row.weight, row.split]
            for row in self.rows
        ]
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()

    def of(self, split: Split) -> Sequence[PreferenceRow]:
        """The rows of one split, in order."""
        return [row for row in self.rows if row.split is split]


class PreferencePlan(Specification):
    """A preference training with nothing left open. `dataset_digest` is the manifest's."""

    spec: PreferenceRecipe
    name: Name
    description: Text = ""
    base_model: Name
    adapter_version: Int
    alpha: Float
    resolution: Int
    seed: Seed
    dataset_digest: str

    @property
    def trigger_word(self) -> None:
        """There is none: the adapter is for every prompt."""

    def draws_samples_after(self, step: int) -> bool:  # noqa: ARG002 - as a TrainingPlan is asked
        """Never: pictures are drawn by the evaluation."""
        return False


AnyPlan: TypeAlias = TrainingPlan | PreferencePlan
"""How an adapter is trained, from pictures or from opinions."""


class HeldOutLook(Specification):
    """What the run saw on the held-out rows after `step` steps. Errors are relative to the reference's."""

    step: int
    accuracy: Share | None = Field(description="share of held-out opinions that the implicit reward agrees with")
    margin: float = Field(description="mean implicit-reward margin, in mean squared error")
    chosen_error_ratio: float = Field(description="policy's error on chosen and liked pictures / the reference's")


class PreferenceReport(Specification):
    """What a finished preference training hands to its caller. Times in seconds."""

    steps: int
    best_step: int
    first_loss: float
    last_loss: float
    final_beta: float
    stop_reason: str
    looks: tuple[HeldOutLook, ...]
    resumed_from_step: int
    execution_seconds: float
