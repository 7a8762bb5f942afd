"""Images and other outputs of jobs."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field

from api.link import FileLink, Link
from core.domain.feedback import RATED_TYPE
from core.domain.rollout import Arm
from core.infra.repository.artifact import IMAGE_TYPES
from core.infra.table import Artifact

_SUFFIX = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "application/json": ".json",
    "text/markdown": ".md",
    "application/octet-stream": ".safetensors",
}


class OutputView(BaseModel):
    """A file that a job made. Whoever holds `url` can fetch it until `url_expires_at`; ask again for a new one."""

    id: UUID
    type: str
    content_type: str
    size_bytes: int
    width: int | None
    height: int | None
    seed: int | None
    sha256: str
    url: str
    url_expires_at: datetime
    adapters: list[dict[str, Any]]
    arm: Arm | None = Field(description="side of the live comparison in which the image was made, if any")
    feedback_token: str | None = Field(description="of an image: lets its holder rate it without an API key")

    @classmethod
    def of(cls, artifact: Artifact, link: Link) -> Self:
        """An artifact as JSON."""
        return cls(**_fields(artifact, link))


class ImageView(OutputView):
    """An image with where it comes from."""

    job_id: UUID
    created_at: datetime

    @classmethod
    def of(cls, artifact: Artifact, link: Link) -> Self:
        """An image as JSON."""
        return cls(**_fields(artifact, link), job_id=artifact.job_id, created_at=artifact.created_at)


def _fields(artifact: Artifact, link: Link) -> dict[str, Any]:
    file = file_link(artifact, link)
    return {
        "id": artifact.id,
        "type": artifact.type,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size_bytes,
        "width": artifact.width,
        "height": artifact.height,
        "seed": artifact.seed,
        "sha256": artifact.sha256,
        "url": file.url,
        "url_expires_at": file.expires_at,
        "adapters": artifact.adapters,
        "arm": artifact.arm,
        "feedback_token": link.feedback_token(artifact.id) if artifact.type == RATED_TYPE else None,
    }


def file_name(artifact: Artifact) -> str:
    """A name under which to save an artifact."""
    return f"{artifact.id}{_SUFFIX.get(artifact.content_type, '')}"


def file_link(artifact: Artifact, link: Link) -> FileLink:
    """Where an artifact's bytes are."""
    place = "images" if artifact.type in IMAGE_TYPES else "artifacts"
    return link.download(
        f"/api/{place}/{artifact.id}/content",
        object_key=artifact.object_key,
        content_type=artifact.content_type,
        file_name=file_name(artifact),
    )
