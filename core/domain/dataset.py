"""DatasetManifest: the only hand-over from people (uploads, feedback) to training."""

import hashlib
import json
from enum import StrEnum

from pydantic import Field

from core.domain.value import Specification, Text


class DatasetStatus(StrEnum):
    """A dataset is open while files arrive and never changes once ready."""

    OPEN = "open"
    READY = "ready"


MAX_IMAGES = 5000
"""Pictures in one dataset."""


class DatasetItem(Specification):
    """One picture with its caption. Sizes in pixels; `object_key` holds the re-encoded PNG."""

    object_key: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    caption: Text
    width: int
    height: int


class DatasetManifest(Specification):
    """A frozen, ordered list of items. Two manifests with the same items have the same digest."""

    items: tuple[DatasetItem, ...]

    @property
    def digest(self) -> str:
        """sha256 over pictures and captions in order, hexadecimal."""
        rows = [[item.sha256, item.caption] for item in self.items]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
