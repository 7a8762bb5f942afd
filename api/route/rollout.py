"""What serves: promote an adapter, roll one back, see why; and the live comparison of a base model."""

from uuid import UUID

from fastapi import APIRouter

from api.dependency import Cursor, Limit, LinkDep, RuntimeDep, TenantId, needs
from api.json_body import StrictRoute
from api.view.adapter import AdapterView
from api.view.adapter import view as view_adapter
from api.view.page import Page
from api.view.rollout import RolloutView, TransitionView, transition_view, view
from core.domain.api_key import Scope
from core.domain.rollout import MoveSpec
from core.services import adapter as adapters
from core.services import model as models
from core.services import policy as policies
from core.services import rollout as rollouts

router = APIRouter(prefix="/api", tags=["rollout"], route_class=StrictRoute)


@router.post("/adapters/{adapter_id}/promote", dependencies=[needs(Scope.ADMIN)])
def promote_adapter(
    adapter_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, spec: MoveSpec | None = None
) -> AdapterView:
    """Let an adapter serve every request to its base model that names none; it is watched against its predecessor."""
    spec = spec or MoveSpec()
    with runtime.database.transaction(tenant_id) as session:
        adapter = adapters.get(session, tenant_id=tenant_id, adapter_id=adapter_id)
        policy = policies.get(
            session, tenant_id=tenant_id, model_id=adapter.base_model_id, default=runtime.settings.update_policy
        )
        rollouts.promote_by_hand(session, adapter=adapter, reason=spec.reason, policy=policy.rollout)
        return view_adapter(adapter, link)


@router.post("/adapters/{adapter_id}/rollback", dependencies=[needs(Scope.ADMIN)])
def roll_back_adapter(
    adapter_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, link: LinkDep, spec: MoveSpec | None = None
) -> AdapterView:
    """Take a champion or a canary out of service; the champion before it serves again, or the bare base model."""
    spec = spec or MoveSpec()
    with runtime.database.transaction(tenant_id) as session:
        adapter = adapters.get(session, tenant_id=tenant_id, adapter_id=adapter_id)
        rollouts.roll_back(session, adapter=adapter, actor="person", reason=spec.reason or "rolled back by hand")
        return view_adapter(adapter, link)


@router.get("/adapters/{adapter_id}/transitions")
def list_transitions(
    adapter_id: UUID, runtime: RuntimeDep, tenant_id: TenantId, limit: Limit = 20, cursor: Cursor = None
) -> Page[TransitionView]:
    """Every change of an adapter's stage with its reason, newest first."""
    with runtime.database.transaction(tenant_id) as session:
        adapter = adapters.get(session, tenant_id=tenant_id, adapter_id=adapter_id)
        found, next_cursor = rollouts.transitions(session, adapter, limit=limit, cursor=cursor)
        return Page(items=[transition_view(each) for each in found], next_cursor=next_cursor)


@router.get("/models/{model_id}/rollout")
def read_rollout(model_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> RolloutView:
    """Your live comparison on a base model that runs now, or the last one, with its evidence."""
    with runtime.database.transaction(tenant_id) as session:
        models.get(session, tenant_id=tenant_id, model_id=model_id)
        return view(rollouts.latest(session, tenant_id=tenant_id, model_id=model_id))
