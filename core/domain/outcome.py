"""What a run hands over when it is done: files in the object store, and what they mean."""

from dataclasses import dataclass, field
from typing import Any

from core.domain.adapter import AdapterManifest
from core.domain.base_model import ModelFacts


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file that the run has stored. `type` is `image`, `sample`, `adapter`, `adapter_kohya` or `manifest`."""

    type: str
    object_key: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    adapters: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything of a run that becomes true at its commit, and nothing of it before."""

    outputs: list[Output] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    adapter: AdapterManifest | None = None
    model_facts: ModelFacts | None = None
