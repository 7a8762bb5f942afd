"""Images and other files that jobs made: show them, find their bytes."""

from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.errors import NotFound
from core.infra.repository import artifact as artifacts
from core.infra.table import Artifact


def get(session: Session, *, tenant_id: UUID, image_id: UUID) -> Artifact:
    """A tenant's picture.

    Raises:
        NotFound: no such picture, or another tenant's.
    """
    image = artifacts.image_by_id(session, tenant_id=tenant_id, image_id=image_id)
    if image is None:
        raise NotFound(f"There is no image {image_id}.")
    return image


def find_file(session: Session, *, artifact_id: UUID, tenant_id: UUID | None) -> Artifact:
    """The artifact whose bytes are asked for; `tenant_id` None where a signed URL has spoken for the caller.

    Raises:
        NotFound: no such file, or another tenant's.
    """
    if tenant_id is None:
        artifact = artifacts.any_by_id(session, artifact_id=artifact_id)
    else:
        artifact = artifacts.own_by_id(session, tenant_id=tenant_id, artifact_id=artifact_id)
    if artifact is None:
        raise NotFound(f"There is no file {artifact_id}.")
    return artifact
