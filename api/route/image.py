"""Images, and the bytes of every file that a job made."""

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from api.dependency import LinkDep, Reader, RuntimeDep, TenantId
from api.file_response import stream_file
from api.json_body import StrictRoute
from api.view.image import ImageView, file_name
from core.services import image as images

router = APIRouter(prefix="/api", tags=["images"], route_class=StrictRoute)


@router.get("/images/{image_id}")
def read_image(image_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep) -> ImageView:
    """What an image is and where it comes from."""
    with runtime.database.transaction(tenant_id) as session:
        return ImageView.of(images.get(session, tenant_id=tenant_id, image_id=image_id), link)


@router.get("/images/{artifact_id}/content", response_class=Response)
@router.get("/artifacts/{artifact_id}/content", response_class=Response)
def read_content(artifact_id: UUID, runtime: RuntimeDep, reader: Reader) -> StreamingResponse:
    """The file itself, for a key or by a signed URL."""
    with runtime.database.transaction(reader) as session:
        artifact = images.find_file(session, artifact_id=artifact_id, tenant_id=reader)
    return stream_file(
        runtime.store,
        artifact.object_key,
        content_type=artifact.content_type,
        file_name=file_name(artifact),
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
    )
