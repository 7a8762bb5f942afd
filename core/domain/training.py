"""TrainingSpec and TrainingReport: how a LoRA is trained, and what came of it."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from core.domain.value import Bool, Count, Float, Int, Name, Seed, Share, Specification, Text
from core.domain.webhook import Notified


class Augmentation(Specification):
    """The probability of each change to a picture, drawn anew each time the picture is used."""

    flip: Share = 0.0
    crop: Share = 0.0
    color: Share = 0.0

    @property
    def any(self) -> bool:
        return max(self.flip, self.crop, self.color) > 0


class Recipe(Specification):
    """How a LoRA is optimized, whatever it learns from. Defaults are those most used for Stable Diffusion."""

    rank: Annotated[Int, Field(ge=1, le=256)] = 16
    alpha: Annotated[Float, Field(gt=0, le=1024)] | None = Field(default=None, description="defaults to rank")
    learning_rate: Annotated[Float, Field(gt=0, le=1)] = 1e-4
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: Annotated[Int, Field(ge=0, le=100_000)] = 0
    weight_decay: Annotated[Float, Field(ge=0, le=1)] = 1e-2
    max_gradient_norm: Annotated[Float, Field(gt=0, le=1e6)] = 1.0
    steps: Annotated[Int, Field(ge=1, le=100_000)] = 1000
    batch_size: Annotated[Int, Field(ge=1, le=64)] = 1
    gradient_accumulation: Annotated[Int, Field(ge=1, le=256)] = 1
    gradient_checkpointing: Bool = False
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    train_text_encoder: Bool = False
    target_modules: Annotated[
        tuple[Annotated[Text, Field(min_length=1, max_length=200)], ...], Field(min_length=1, max_length=64)
    ] = ("to_q", "to_k", "to_v", "to_out.0")

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps >= self.steps and self.warmup_steps > 0:
            raise ValueError("warmup_steps must be smaller than steps")
        return self


class TrainingSpec(Recipe, Notified):
    """A fine-tuning on a dataset of pictures."""

    base_model: Name | None = None
    dataset_id: UUID
    name: Name
    description: Annotated[Text, Field(max_length=2000)] = ""
    trigger_word: Annotated[Text, Field(max_length=100)] | None = None
    resolution: Annotated[Int, Field(ge=64, le=2048, multiple_of=8)] | None = Field(
        default=None, description="pixels a side; defaults to the base model's"
    )
    seed: Seed | None = None
    min_snr_gamma: Annotated[Float, Field(gt=0, le=100)] | None = 5.0
    caption_dropout: Share = 0.0
    augment: Augmentation = Augmentation()
    sample_prompts: Annotated[
        tuple[Annotated[Text, Field(min_length=1, max_length=1000)], ...], Field(max_length=8)
    ] = ()
    sample_every: Annotated[Count, Field(ge=1)] | None = Field(
        default=None, description="steps between two rounds of samples; only at the end when left out"
    )


class TrainingPlan(Specification):
    """A TrainingSpec with nothing left open: what the worker runs."""

    spec: TrainingSpec
    base_model: Name
    adapter_version: int
    alpha: Float
    resolution: Int
    seed: Seed
    dataset_digest: str

    @property
    def name(self) -> str:
        """The adapter's."""
        return self.spec.name

    @property
    def description(self) -> str:
        return self.spec.description

    @property
    def trigger_word(self) -> str | None:
        return self.spec.trigger_word

    def draws_samples_after(self, step: int) -> bool:
        """Whether pictures are drawn after so many steps: at the end, and as often as asked."""
        every = self.spec.sample_every
        return step == self.spec.steps or (every is not None and step % every == 0)


class TrainingMetric(Specification):
    """What one optimizer step showed. `gradient_norm` is before clipping."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


class TrainingReport(Specification):
    """What a finished run hands to its caller. Times in seconds."""

    steps: int
    first_loss: float
    last_loss: float
    resumed_from_step: int
    execution_seconds: float
