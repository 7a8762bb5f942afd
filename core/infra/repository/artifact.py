"""Queries on artifacts."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.infra.table import Artifact

IMAGE_TYPES = ("image", "sample")


def any_by_id(session: Session, *, artifact_id: UUID) -> Artifact | None:
    """For a caller that has proved its right in another way."""
    return session.get(Artifact, artifact_id)


def own_by_id(session: Session, *, tenant_id: UUID, artifact_id: UUID) -> Artifact | None:
    query = select(Artifact).where(Artifact.id == artifact_id, Artifact.tenant_id == tenant_id)
    return session.scalars(query).one_or_none()


def image_by_id(session: Session, *, tenant_id: UUID, image_id: UUID) -> Artifact | None:
    """A tenant's picture."""
    query = select(Artifact).where(Artifact.id == image_id, Artifact.tenant_id == tenant_id)
    return session.scalars(query.where(Artifact.type.in_(IMAGE_TYPES))).one_or_none()
