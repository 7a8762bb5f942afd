"""DatasetManifest: the only hand-over from people (uploads, feedback) to training."""

import hashlib
import json
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from core.domain.value import Specification, Text


class DatasetStatus(StrEnum):
    """A dataset is open while files arrive and never changes once ready."""

    OPEN = "open"
    READY = "ready"


MAX_IMAGES = 5000
"""Pictures in one dataset."""


Caption = Annotated[Text, Field(max_length=10_000)]
"""What a picture shows; may be empty where a trigger word says it all."""

Title = Annotated[Text, Field(min_length=1, max_length=200)]
"""What people call a dataset."""


def _last_part(path: str) -> str:
    name = path.replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise ValueError("must end in the name of a file")
    return name


class UploadSpec(Specification):
    """A picture that the client is going to upload. Of a path, only the name of the file is kept."""

    file_name: Annotated[Text, Field(min_length=1, max_length=255), AfterValidator(_last_part)]
    caption: Caption = ""


class DatasetTitle(Specification):
    """What is said of a dataset whose pictures come along."""

    name: Title


class DatasetSpec(Specification):
    """A dataset whose pictures the client uploads one by one, each to a URL of its own."""

    name: Title
    images: Annotated[tuple[UploadSpec, ...], Field(min_length=1, max_length=MAX_IMAGES)]


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
