"""GenerationSpec: what a picture is made from."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from core.domain.rollout import Arm
from core.domain.value import Float, Int, Name, Seed, Share, Specification, Text
from core.domain.webhook import Notified


class SchedulerName(StrEnum):
    """Every noise scheduler that Stable Diffusion pipelines accept."""

    DDIM = "ddim"
    DDPM = "ddpm"
    PNDM = "pndm"
    LMS = "lms"
    LMS_KARRAS = "lms_karras"
    EULER = "euler"
    EULER_KARRAS = "euler_karras"
    EULER_ANCESTRAL = "euler_ancestral"
    HEUN = "heun"
    HEUN_KARRAS = "heun_karras"
    DPM2 = "dpm2"
    DPM2_KARRAS = "dpm2_karras"
    DPM2_ANCESTRAL = "dpm2_ancestral"
    DPMPP_2M = "dpmpp_2m"
    DPMPP_2M_KARRAS = "dpmpp_2m_karras"
    DPMPP_2M_SDE = "dpmpp_2m_sde"
    DPMPP_2M_SDE_KARRAS = "dpmpp_2m_sde_karras"
    DPMPP_2S = "dpmpp_2s"
    DPMPP_SDE = "dpmpp_sde"
    DPMPP_SDE_KARRAS = "dpmpp_sde_karras"
    DEIS = "deis"
    UNIPC = "unipc"
    UNIPC_KARRAS = "unipc_karras"
    LCM = "lcm"
    TCD = "tcd"


class OutputFormat(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def content_type(self) -> str:
        return f"image/{self}"


class AdapterChoice(Specification):
    """One LoRA of a request. `text_encoder_weight` defaults to `weight`."""

    ref: Annotated[Text, Field(min_length=1, max_length=200, examples=["my-style", "my-style@3", "sha256:9f86d0…"])]
    weight: Annotated[Float, Field(ge=-4, le=4)] = 1.0
    text_encoder_weight: Annotated[Float, Field(ge=-4, le=4)] | None = None


class GenerationSpec(Notified):
    """What a picture is made from. A field left out takes the base model's default.

    Image i of a request is made from seed + i, so each can be made again alone.
    """

    prompt: Annotated[Text, Field(max_length=10_000, examples=["a large red star on a blue background"])]
    negative_prompt: Annotated[Text, Field(max_length=10_000)] = ""
    model: Name | None = None
    width: Annotated[Int, Field(ge=64, le=8192, multiple_of=8)] | None = None
    height: Annotated[Int, Field(ge=64, le=8192, multiple_of=8)] | None = None
    steps: Annotated[Int, Field(ge=1, le=200)] | None = None
    guidance_scale: Annotated[Float, Field(ge=0, le=50)] | None = None
    seed: Seed | None = None
    num_images: Annotated[Int, Field(ge=1, le=16)] = 1
    scheduler: SchedulerName | None = None
    adapters: (
        Annotated[
            tuple[AdapterChoice, ...],
            Field(max_length=8, description="left out: whatever serves best now; []: the bare base model"),
        ]
        | None
    ) = None
    user_ref: (
        Annotated[
            Text,
            Field(
                min_length=1,
                max_length=200,
                description="your own name of the user who asks: in a live comparison he stays on one side",
            ),
        ]
        | None
    ) = None
    init_image: (
        Annotated[
            Text,
            Field(
                max_length=32 * 2**20,
                description="the id of an image made here before, or a data: URL of a PNG, JPEG or WebP",
            ),
        ]
        | None
    ) = None
    strength: Annotated[Share, Field(gt=0, description="how far init_image is changed, 0 to 1")] | None = None
    output_format: OutputFormat = OutputFormat.PNG

    @model_validator(mode="after")
    def _strength_needs_an_image(self) -> Self:
        if self.strength is not None and self.init_image is None:
            raise ValueError("strength is for image to image: give init_image too, or leave strength out")
        return self


class GenerationDefaults(Specification):
    """What a base model uses where a request is silent. Sizes in pixels."""

    width: Annotated[Int, Field(ge=1, le=8192)] = 512
    height: Annotated[Int, Field(ge=1, le=8192)] = 512
    steps: Annotated[Int, Field(ge=1, le=200)] = 25
    guidance_scale: Annotated[Float, Field(ge=0, le=50)] = 7.0
    scheduler: SchedulerName = SchedulerName.DPMPP_2M_KARRAS
    strength: Share = 0.75


class ResolvedAdapter(Specification):
    """A LoRA as it was when the job was accepted; later versions of its name change nothing."""

    id: str
    name: str
    version: int
    sha256: str
    object_key: str
    weight: Float
    text_encoder_weight: Float


class Assignment(Specification):
    """How one request takes part in a live comparison: the arm of each of its pictures, in order.

    The plan's own adapters are the incumbent's; `challenger` is what the other arm's pictures are drawn with.
    """

    rollout_id: str
    arms: tuple[Arm, ...]
    challenger: tuple[ResolvedAdapter, ...]


class GenerationPlan(Specification):
    """A GenerationSpec with nothing left open: what the worker runs, and what the receipt records."""

    prompt: Text
    negative_prompt: Text
    model: Name
    width: Int
    height: Int
    steps: Int
    guidance_scale: Float
    seed: Seed
    num_images: Int
    scheduler: SchedulerName
    adapters: tuple[ResolvedAdapter, ...] = ()
    init_image_key: str | None = None
    strength: Share | None = None
    output_format: OutputFormat
    assignment: Assignment | None = None

    def arm_of(self, index: int) -> Arm | None:
        """Which side of a live comparison draws image `index`; None where there is none."""
        return None if self.assignment is None else self.assignment.arms[index]

    def adapters_of(self, index: int) -> tuple[ResolvedAdapter, ...]:
        """What image `index` is drawn with."""
        if self.assignment is not None and self.assignment.arms[index] is Arm.CHALLENGER:
            return self.assignment.challenger
        return self.adapters

    def part(self, first: int, count: int = 1) -> Self:
        """The plan that draws `count` neighbouring images of one arm, from image `first` on, as if they were all."""
        alone = {"seed": self.seed + first, "num_images": count, "adapters": self.adapters_of(first)}
        return self.model_copy(update=alone | {"assignment": None})

    @property
    def denoising_steps(self) -> int:
        """Steps that are really computed: image to image starts part of the way down."""
        return self.steps if self.strength is None else max(1, int(self.steps * self.strength))
