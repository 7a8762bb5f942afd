"""Lineage: from a picture or an adapter both ways, and from feedback on."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from api.dependency import Cursor, Limit, LinkDep, RuntimeDep, TenantId
from api.json_body import StrictRoute
from api.view.lineage import AdapterLineageView, ImageLineageView, InfluenceView, influence, origin, trace
from core.domain.adapter import AdapterStage
from core.services import lineage
from core.services.lineage import Question

router = APIRouter(prefix="/api", tags=["lineage"], route_class=StrictRoute)
Depth = Annotated[int, Query(ge=1, le=50, description="turns of the wheel to walk at most, each way")]


async def get_question(tenant_id: TenantId, depth: Depth = 10, limit: Limit = 20, cursor: Cursor = None) -> Question:
    """What this request asks of a lineage."""
    return Question(tenant_id=tenant_id, depth=depth, limit=limit, cursor=cursor)


QuestionDep = Annotated[Question, Depends(get_question)]


@router.get("/images/{image_id}/lineage")
def image_lineage(image_id: UUID, runtime: RuntimeDep, question: QuestionDep, link: LinkDep) -> ImageLineageView:
    """Up: the picture's request, its adapters, their updates, the feedback those learned from, its pictures, and on.

    Down: feedback on the picture, the updates that used it, the adapters they made, how many pictures those drew.
    """
    with runtime.database.transaction(question.tenant_id) as session:
        image, job, traces = lineage.of_image(session, question, image_id=image_id)
        return ImageLineageView(
            image=origin(image, job, link), up=trace(traces.up, link), down=trace(traces.down, link)
        )


@router.get("/adapters/{adapter_id}/lineage")
def adapter_lineage(adapter_id: UUID, runtime: RuntimeDep, question: QuestionDep, link: LinkDep) -> AdapterLineageView:
    """Up: the update that made the adapter, and all behind it. Down: what feedback on its pictures changed."""
    with runtime.database.transaction(question.tenant_id) as session:
        adapter, traces = lineage.of_adapter(session, question, adapter_id=adapter_id)
        return AdapterLineageView(
            id=adapter.id,
            ref=adapter.ref,
            stage=AdapterStage(adapter.stage),
            up=trace(traces.up, link),
            down=trace(traces.down, link),
        )


@router.get("/feedback/{feedback_id}/influence")
def feedback_influence(feedback_id: UUID, runtime: RuntimeDep, question: QuestionDep, link: LinkDep) -> InfluenceView:
    """The updates that used the feedback, or the rule that left it out; their adapters, their pictures, and on."""
    with runtime.database.transaction(question.tenant_id) as session:
        feedback, found = lineage.of_feedback(session, question, feedback_id=feedback_id)
        return influence(feedback, found, link)
