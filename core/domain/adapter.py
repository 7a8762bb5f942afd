"""A LoRA: its manifest, its reference, its stage."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from core.domain.base_model import ModelFamily
from core.domain.errors import InvalidInput
from core.domain.value import Float, Name, Specification, Text


class AdapterStage(StrEnum):
    """A trained or imported adapter is served on request; the other stages belong to the learning loop."""

    AVAILABLE = "available"
    CANDIDATE = "candidate"
    CANARY = "canary"
    CHAMPION = "champion"
    REJECTED = "rejected"
    RETIRED = "retired"


SERVING = (AdapterStage.CHAMPION, AdapterStage.CANARY)
"""Stages in which an adapter draws for requests that name none."""


class AdapterSpec(Specification):
    """What is said of a LoRA file that is imported. `alpha` is for files that do not tell theirs."""

    name: Name
    description: Annotated[Text, Field(max_length=2000)] = ""
    base_model: Name | None = None
    trigger_word: Annotated[Text, Field(max_length=100)] | None = None
    alpha: Annotated[Float, Field(gt=0, le=1024)] | None = None


class AdapterManifest(Specification):
    """What an adapter is and where it comes from. Begins with the fields `name`, `description`, `model`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: Name
    description: Text = ""
    model: Text = Field(description="name of the base model")
    version: int
    family: ModelFamily
    base_model_id: str
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    trains_text_encoder: bool = False
    trigger_word: Text | None = None
    sha256: str = Field(description="digest of the safetensors file")
    size_bytes: int
    dataset_digest: str | None = None
    training_spec: dict[str, Any] | None = None
    versions: dict[str, str] = Field(default_factory=dict, description="library → version that made it")


@dataclass(frozen=True)
class AdapterRef:
    """Which adapter a request means: a digest, or a name with a version or alias (`latest` by default)."""

    name: str | None = None
    version: int | None = None
    alias: str | None = None
    sha256: str | None = None


def parse_ref(ref: str) -> AdapterRef:
    """Read `name`, `name@3`, `name@alias` or `sha256:<64 hex digits>`.

    Raises:
        InvalidInput: it has none of these forms.
    """
    if match := re.fullmatch(r"sha256:([0-9a-f]{64})", ref):
        return AdapterRef(sha256=match[1])
    if match := re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:@(?:(\d{1,9})|([a-z][a-z0-9_-]*)))?", ref):
        name, version, alias = match.groups()
        if version is not None:
            return AdapterRef(name=name, version=int(version))
        return AdapterRef(name=name, alias=alias or "latest")
    raise InvalidInput.of("ref", "must be name, name@version, name@alias or sha256:<64 hex digits>")
