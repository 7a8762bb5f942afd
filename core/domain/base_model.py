"""A base model: where it comes from, what family it is, how it is loaded."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, field_validator

from core.domain.generation import GenerationDefaults, SchedulerName
from core.domain.value import Bool, Name, Specification, Text


class ModelFamily(StrEnum):
    """What adapters are made for: an adapter of one family does not fit another.

    `OTHER` is whatever else diffusers draws with: one picture after the other, with no adapters.
    """

    SD1 = "sd1"
    SD2 = "sd2"
    SDXL = "sdxl"
    SD3 = "sd3"
    FLUX = "flux"
    OTHER = "other"


TRAINABLE = (ModelFamily.SD1, ModelFamily.SD2, ModelFamily.SDXL)
"""Families whose models can be fine-tuned, and learn from feedback."""

_FLOW = (SchedulerName.EULER, SchedulerName.EULER_KARRAS)
"""What there is for models that were trained by flow matching."""


def accepted_schedulers(family: ModelFamily, *, default: SchedulerName) -> tuple[SchedulerName, ...]:
    """The schedulers that models of a family can be drawn with; `default` is the model's own."""
    if family is ModelFamily.OTHER:
        return (default,)
    if family is ModelFamily.SD3:
        return (*_FLOW, SchedulerName.HEUN)
    return _FLOW if family is ModelFamily.FLUX else tuple(SchedulerName)


def side_step(family: ModelFamily) -> int:
    """Pixels that a picture's sides must be multiples of: transformers take latents of 8 pixels two by two."""
    return 16 if family in (ModelFamily.SD3, ModelFamily.FLUX) else 8


class ModelStatus(StrEnum):
    """A model serves requests once a worker has fetched, checked and loaded it."""

    CHECKING = "checking"
    READY = "ready"
    FAILED = "failed"


class SourceKind(StrEnum):
    FOLDER = "folder"
    S3 = "s3"
    HUB = "hub"


@dataclass(frozen=True)
class ModelSource:
    """Where the files are: an absolute folder, an `s3://bucket/prefix`, or a hub id with its pinned revision."""

    kind: SourceKind
    location: str


def parse_source(source: str) -> ModelSource:
    """Tell the three kinds of source apart by their form."""
    if source.startswith("s3://"):
        return ModelSource(SourceKind.S3, source.removesuffix("/"))
    if source.startswith(("/", "./", "../")):
        return ModelSource(SourceKind.FOLDER, source)
    return ModelSource(SourceKind.HUB, source)


class LoadOptions(Specification):
    """How a worker loads the model. `auto` takes bfloat16 or float16 on a CUDA device, float32 elsewhere.

    `attention` is the kernel that is tried first; where it cannot, another one does. On a CUDA device only, `compile`
    has the repeated blocks of the denoiser compiled, which takes a minute or two at first and needs a C compiler (they
    run as they are without one), and `cuda_graphs` replays calls where launching their kernels takes longer than
    running them.
    """

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    attention_slicing: Bool = False
    vae_tiling: Bool = False
    cpu_offload: Literal["none", "model", "sequential"] = "none"
    attention: Literal["auto", "flash", "efficient", "cudnn", "math"] = "auto"
    channels_last: Bool = False
    compile: Bool = False
    cuda_graphs: Bool = True


class BaseModelSpec(Specification):
    """A request to register a base model."""

    name: Name
    source: Annotated[
        Text,
        Field(
            min_length=1,
            max_length=1000,
            examples=["/data/models/my-model", "s3://bucket/prefix", "owner/name"],
        ),
    ]
    revision: Annotated[Text, Field(max_length=40)] | None = None
    description: Annotated[Text, Field(max_length=2000)] = ""
    options: LoadOptions = LoadOptions()
    defaults: GenerationDefaults | None = None

    @field_validator("source")
    @classmethod
    def _three_forms(cls, source: str) -> str:
        parsed = parse_source(source)
        if parsed.kind is SourceKind.HUB and not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
            raise ValueError("must be an absolute folder, s3://bucket/prefix, or a hub id owner/name")
        if parsed.kind is SourceKind.S3 and not {"", ".", ".."}.isdisjoint(parsed.location.split("/")[2:]):
            raise ValueError("must be s3://bucket/prefix, with none of its parts empty, . or ..")
        return source


@dataclass(frozen=True)
class ModelHandle:
    """What a worker needs to know of a base model to load it. What is `shared`, the operator has registered."""

    id: UUID
    name: str
    source: str
    revision: str | None
    options: LoadOptions
    shared: bool = False


@dataclass(frozen=True)
class ModelFacts:
    """What a worker found when it checked a base model.

    `modules` maps each module that a LoRA may change, named as in diffusers and beginning with `unet.` or
    `transformer.`, `text_encoder.` or `text_encoder_2.`, to the shape of its weight.
    """

    family: ModelFamily
    defaults: GenerationDefaults
    modules: dict[str, tuple[int, ...]]
