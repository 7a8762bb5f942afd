"""POST /api/generate."""

from fastapi import APIRouter

from api.dependency import needs
from api.header import CancelAfter, IdempotencyKey, Prefer, Priority, read_terms
from api.json_body import PictureRoute
from api.submission import DeskDep
from api.view.job import JobView
from core.domain.api_key import Scope
from core.domain.generation import GenerationSpec
from core.services import generation
from core.services import init_image as init_images

router = APIRouter(prefix="/api", tags=["generation"], route_class=PictureRoute)


@router.post("/generate", status_code=202, dependencies=[needs(Scope.GENERATE)])
async def generate(
    spec: GenerationSpec,
    desk: DeskDep,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
    priority: Priority = "normal",
    prefer: Prefer = None,
) -> JobView:
    """Make images. The job is accepted at once; follow `urls.self` to its outputs."""
    terms = read_terms(
        desk.tenant_id, spec, idempotency_key=idempotency_key, cancel_after=cancel_after, priority=priority
    )
    runtime, sent = desk.runtime, None
    if init_images.comes_along(spec):
        sent = await runtime.init_images.do(
            desk.tenant_id,
            init_images.keep,
            spec,
            tenant_id=desk.tenant_id,
            settings=runtime.settings,
            store=runtime.store,
        )
    return await desk.hand_in(
        lambda session: generation.submit(
            session,
            spec,
            terms,
            memory=runtime.memory,
            settings=runtime.settings,
            sent=sent,
            store=runtime.store,
            queue=runtime.queue,
        ),
        prefer=prefer,
        stored=None if sent is None else sent.key,
    )
