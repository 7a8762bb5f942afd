"""The policy of the learning loop, per base model."""

from uuid import UUID

from fastapi import APIRouter

from api.dependency import RuntimeDep, TenantId, needs
from api.json_body import StrictRoute
from api.view.policy import PolicyView, view
from core.domain.api_key import Scope
from core.domain.policy import UpdatePolicy
from core.services import policy as policies

router = APIRouter(prefix="/api/models", tags=["learning"], route_class=StrictRoute)


@router.get("/{model_id}/policy")
def read_policy(model_id: UUID, runtime: RuntimeDep, tenant_id: TenantId) -> PolicyView:
    """When your feedback on a base model becomes an update, and what it waits for now, in numbers."""
    default = runtime.settings.update_policy
    with runtime.database.transaction(tenant_id) as session:
        return view(policies.look(session, tenant_id=tenant_id, model_id=model_id, default=default))


@router.put("/{model_id}/policy", dependencies=[needs(Scope.ADMIN)])
def put_policy(model_id: UUID, policy: UpdatePolicy, runtime: RuntimeDep, tenant_id: TenantId) -> PolicyView:
    """Replace your policy for a base model; a field left out takes its default."""
    with runtime.database.transaction(tenant_id) as session:
        policies.put(session, policy, tenant_id=tenant_id, model_id=model_id)
    return read_policy(model_id, runtime, tenant_id)
