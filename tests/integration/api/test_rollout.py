"""Promotions and rollbacks over HTTP, on the real servers."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.errors import Conflict
from core.domain.model_update import ModelUpdateStatus
from core.infra.table import Adapter, ModelUpdate
from core.services import rollout as rollouts
from tests.api_bench import Tenancy
from tests.integration.api.test_generation import import_adapter
from tests.rollout_bench import (
    add_update,
    canary,
    no_watch,
    plan,
    promote,
    roll_back,
    stage,
    status,
)


def test_promotion_and_rollback_leave_their_reasons(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    first, second = import_adapter(tenant), import_adapter(tenant)
    promote(tenant, first)
    assert promote(tenant, second, reason="brighter").json()["stage"] == "champion"
    assert stage(tenant, first) == "retired"
    assert roll_back(tenant, second, reason="too bright").json()["stage"] == "rejected"
    assert stage(tenant, first) == "champion"
    moves = tenant.get(f"/api/adapters/{second['id']}/transitions").json()["items"]
    assert [(each["before"], each["after"], each["actor"], each["reason"]) for each in moves] == [
        ("champion", "rejected", "person", "too bright"),
        ("available", "champion", "person", "brighter"),
    ]
    [latest, *_] = tenant.get(f"/api/adapters/{first['id']}/transitions?limit=1").json()["items"]
    assert latest["reason"] == "style@2 was rolled back: too bright"
    assert roll_back(tenant, first).json()["stage"] == "rejected"
    assert plan(tenant)["adapters"] == [], "before the first there was the bare base"


def test_a_rollback_goes_back_over_those_that_were_rolled_back(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    one, two, three = (import_adapter(tenant) for _ in range(3))
    for adapter in (one, two, three):
        promote(tenant, adapter)
    roll_back(tenant, three)
    roll_back(tenant, two)
    assert [stage(tenant, each) for each in (one, two, three)] == ["champion", "rejected", "rejected"]


def test_an_adapter_with_withdrawn_feedback_never_serves_again(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    one, two, three = (import_adapter(tenant) for _ in range(3))
    for adapter in (one, two, three):
        promote(tenant, adapter)
    update = add_update(tenant, model_id, two, status=ModelUpdateStatus.PROMOTED)
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(ModelUpdate, update)
        row.taken_back_at = row.created_at
    roll_back(tenant, three)
    assert stage(tenant, one) == "champion"
    refused = promote(tenant, two)
    assert (refused.status_code, "withdrawn" in refused.json()["detail"]) == (409, True)


@pytest.mark.parametrize("place", ["champion", "available", "rejected"])
def test_what_cannot_be_moved_is_a_conflict_that_says_why(tenant: Tenancy, model_id: UUID, place: str) -> None:
    adapter = import_adapter(tenant)
    if place != "available":
        promote(tenant, adapter)
    if place == "rejected":
        roll_back(tenant, adapter)
    refused = promote(tenant, adapter) if place == "champion" else roll_back(tenant, adapter)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert place in refused.json()["detail"]


@pytest.mark.parametrize("body", [{"reason": ""}, {"reason": "x" * 2001}, {"reason": 5}, {"why": "x"}, []])
def test_a_wrong_reason_is_refused(tenant: Tenancy, model_id: UUID, body: Any) -> None:
    adapter = import_adapter(tenant)
    assert tenant.post(f"/api/adapters/{adapter['id']}/promote", json=body).status_code == 422
    assert stage(tenant, adapter) == "available"


def test_without_a_rollout_there_is_none_to_show(tenant: Tenancy, model_id: UUID) -> None:
    assert tenant.get(f"/api/models/{model_id}/rollout").status_code == 404
    assert tenant.get(f"/api/models/{uuid4()}/rollout").status_code == 404


def test_many_who_promote_at_once_leave_one_champion(tenant: Tenancy, model_id: UUID) -> None:
    adapters = [import_adapter(tenant) for _ in range(4)]
    calls = [(adapter, move) for adapter in adapters for move in (promote, roll_back)] * 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: call[1](tenant, call[0]), calls))
    assert {answer.status_code for answer in answers} <= {200, 409}
    stages = Counter(stage(tenant, adapter) for adapter in adapters)
    assert stages["champion"] <= 1
    assert set(stages) <= {"champion", "retired", "rejected", "available"}
    served = plan(tenant)["assignment"] or {"challenger": plan(tenant)["adapters"]}
    assert len(served["challenger"]) <= 1


def test_a_person_may_put_another_in_while_a_canary_runs(tenant: Tenancy, model_id: UUID) -> None:
    tried, chosen = import_adapter(tenant), import_adapter(tenant)
    update = add_update(tenant, model_id, tried)
    canary(tenant, tried, update=update)
    promote(tenant, chosen)
    assert (stage(tenant, tried), stage(tenant, chosen)) == ("retired", "champion")
    assert status(tenant, update) == "rejected"


def test_a_person_may_promote_or_abort_a_canary(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update)
    promote(tenant, adapter)
    assert (stage(tenant, adapter), status(tenant, update)) == ("champion", "promoted")
    other = import_adapter(tenant)
    update = add_update(tenant, model_id, other)
    canary(tenant, other, update=update)
    assert roll_back(tenant, other).json()["stage"] == "rejected"
    assert (status(tenant, update), stage(tenant, adapter)) == ("rejected", "champion")


def test_a_policy_without_a_canary_promotes_at_once(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update, canary_share=0.0)
    assert (stage(tenant, adapter), status(tenant, update)) == ("champion", "promoted")


def test_an_adapter_of_a_rollout_stays(tenant: Tenancy, model_id: UUID) -> None:
    first, second = import_adapter(tenant), import_adapter(tenant)
    promote(tenant, first)
    promote(tenant, second)
    job = tenant.generate().json()
    refused = tenant.call("DELETE", f"/api/adapters/{second['id']}")
    assert (refused.status_code, "A job" in refused.json()["detail"]) == (409, True)
    tenant.post(job["urls"]["cancel"])
    for adapter, reason in ((first, "live comparison"), (second, "champion")):
        refused = tenant.call("DELETE", f"/api/adapters/{adapter['id']}")
        assert (refused.status_code, reason in refused.json()["detail"]) == (409, True)


def test_the_verbs_say_what_is_wrong(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(Adapter, UUID(adapter["id"]))
        with pytest.raises(Conflict, match="is available; only a champion or a canary"):
            rollouts.roll_back(session, adapter=row, actor="person", reason="x")
