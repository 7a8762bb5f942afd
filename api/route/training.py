"""POST /api/fine-tune, and the loss of each step of a training."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.dependency import RuntimeDep, TenantId, needs
from api.header import CancelAfter, IdempotencyKey, Prefer, Priority, read_terms
from api.json_body import StrictRoute
from api.submission import DeskDep
from api.view.job import JobView
from api.view.metric import MetricPage, MetricView
from core.domain.api_key import Scope
from core.domain.training import TrainingSpec
from core.services import training

router = APIRouter(prefix="/api", tags=["fine-tuning"], route_class=StrictRoute)


@router.post("/fine-tune", status_code=202, dependencies=[needs(Scope.TRAIN)])
async def fine_tune(
    spec: TrainingSpec,
    desk: DeskDep,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
    priority: Priority = "normal",
    prefer: Prefer = None,
) -> JobView:
    """Train a LoRA on a dataset. Its name gets a new version with every training."""
    terms = read_terms(
        desk.tenant_id, spec, idempotency_key=idempotency_key, cancel_after=cancel_after, priority=priority
    )
    runtime = desk.runtime
    return await desk.hand_in(
        lambda session: training.submit(session, spec, terms, settings=runtime.settings, queue=runtime.queue),
        prefer=prefer,
    )


@router.get("/jobs/{job_id}/metrics")
def list_metrics(
    job_id: UUID,
    runtime: RuntimeDep,
    tenant_id: TenantId,
    after_step: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> MetricPage:
    """The loss of each optimizer step, in order; ask on with `after_step=next_after_step`."""
    with runtime.database.transaction(tenant_id) as session:
        found = training.metrics_page(session, tenant_id=tenant_id, job_id=job_id, after_step=after_step, limit=limit)
        items = [MetricView.model_validate(row, from_attributes=True) for row in found]
    return MetricPage(items=items, next_after_step=items[-1].step if len(items) == limit else None)
