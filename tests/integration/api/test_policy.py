"""The policy over HTTP: read why nothing happens yet, put another, be told what is wrong with it."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.policy import UpdatePolicy
from tests.api_bench import Tenancy, open_app


def test_where_none_was_put_the_operators_policy_counts(tenant: Tenancy, model_id: UUID) -> None:
    shown = tenant.get(f"/api/models/{model_id}/policy").json()
    assert shown["policy"] == tenant.runtime.settings.update_policy.model_dump(mode="json")
    assert shown["standing"]["new_labels"] == 0 and shown["standing"]["in_flight_update_id"] is None
    assert shown["decision"]["due"] is False
    assert shown["decision"]["waiting_for"][:2] == ["0 of 200 new labels", "0 of 10 users"]
    assert shown["decided_at"] is None


def test_a_policy_is_put_whole_and_only_for_its_tenant(tenant: Tenancy, stranger: Tenancy, model_id: UUID) -> None:
    url = f"/api/models/{model_id}/policy"
    recipe = {"rank": 4, "target_modules": ["to_q", "attn1.to_k"]}
    answer = tenant.call("PUT", url, json={"min_users": 2, "min_new_labels": 3, "recipe": recipe})
    assert answer.status_code == 200, answer.json()
    assert answer.json()["decision"]["waiting_for"][:2] == ["0 of 3 new labels", "0 of 2 users"]
    shown = tenant.get(url).json()["policy"]
    assert shown == UpdatePolicy(min_users=2, min_new_labels=3, recipe=recipe).model_dump(mode="json")
    assert stranger.get(url).json()["policy"]["min_users"] == 10
    tenant.call("PUT", url, json={"enabled": False})
    assert tenant.get(url).json()["policy"] == UpdatePolicy(enabled=False).model_dump(mode="json")
    assert tenant.get(url).json()["decision"]["waiting_for"][0] == "the policy to be enabled"


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        ({"min_userz": 1}, {"min_userz"}),
        (
            {"min_users": 0, "cooldown_hours": -1, "gates": {"max_drift": "x"}},
            {"min_users", "cooldown_hours", "gates.max_drift"},
        ),
        ({"min_users": 1.5}, {"min_users"}),
        ({"seed": 2**63}, {"seed"}),
        ({"adapter_name": "../x"}, {"adapter_name"}),
        ({"rollout": {"canary_share": 1.1}}, {"rollout.canary_share"}),
        ({"selection": {"held_out_share": True}}, {"selection.held_out_share"}),
        ({"recipe": {"target_modules": ["to_q", "to_nowhere"]}}, {"recipe.target_modules.1"}),
        ({"recipe": {"rank": 64}}, {"recipe.rank"}),
    ],
)
def test_every_wrong_field_is_named(tenant: Tenancy, model_id: UUID, policy: dict[str, Any], fields: set[str]) -> None:
    answer = tenant.call("PUT", f"/api/models/{model_id}/policy", json=policy)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert {each["field"] for each in answer.json()["errors"]} == fields
    assert tenant.get(f"/api/models/{model_id}/policy").json()["policy"]["min_users"] == 10


def test_a_policy_of_no_model_or_of_one_that_is_not_ready(tenant: Tenancy) -> None:
    url = f"/api/models/{uuid4()}/policy"
    assert tenant.get(url).status_code == tenant.call("PUT", url, json={}).status_code == 404
    tenant.post("/api/models", json={"name": "m", "source": f"{tenant.runtime.settings.model_dir.resolve()}/m"})
    [model] = tenant.get("/api/models").json()["items"]
    answer = tenant.call("PUT", f"/api/models/{model['id']}/policy", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_the_operator_sets_the_default(tenant: Tenancy, model_id: UUID) -> None:
    changed = tenant.runtime.settings.model_copy(update={"update_policy": UpdatePolicy(min_users=7)})
    with open_app(changed) as client:
        tenant.http = client
        assert tenant.get(f"/api/models/{model_id}/policy").json()["policy"]["min_users"] == 7
